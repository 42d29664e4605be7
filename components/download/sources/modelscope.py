"""Models of ModelScope, through its HTTP API.

Not through its own client, whose listing leaves out what commit it is of. Under
``{MODELSCOPE_ENDPOINT}/api/v1/models/{owner}/{name}``:

=====================================  =========================================================
``GET`` of it                          ``License``
``/repo/files?Revision=&Recursive=``   ``Files``: of each ``Path``, ``Size``, ``Sha256`` and
                                       ``Revision``, the commit that changed it last; and
                                       ``LatestCommitter.ShortId``, how the commit begins
``/revisions``                         names of branches and tags
``/repo?Revision=&FilePath=``          the bytes; a range is served with status 200
=====================================  =========================================================
"""

import os
import re
from typing import Any
from urllib.parse import urlencode

from components.download.config import ModelScopeSource, Transfer
from components.download.transfer.http import Http
from components.download.transfer.remote_file import Listing, Place, RemoteFile
from omnistage.errors import InputError, TransientError
from omnistage.events import Events

_LISTED = 3000  # entries; what the server leaves out above so many, it does not say


def list_modelscope(source: ModelScopeSource, transfer: Transfer, events: Events) -> Listing:
    """Return a model's matching files at one commit.

    Size and sha256 of each file are known. ``MODELSCOPE_ENDPOINT`` names another server,
    ``MODELSCOPE_API_TOKEN`` opens private models.

    Raises:
        InputError: If it is not there or may not be read.
        TransientError: If ModelScope does not answer.
    """
    from huggingface_hub.utils import filter_repo_objects

    where = f"modelscope model {source.model}"
    api = _Api(source.model, transfer)
    try:
        info = api.get("")
        tree = api.files(source.revision)
    except InputError as e:
        raise InputError(f"{where}: {e}; a private model needs MODELSCOPE_API_TOKEN") from e
    if not tree["Files"]:  # which is how it answers to a revision that is not there
        known = ", ".join(api.revisions())
        raise InputError(
            f"{where}: no revision {source.revision!r}, or no file in it; it has {known}"
        )
    commit, begins = _commit(source.revision, tree)
    entries = api.entries(commit or source.revision, tree["Files"])
    if commit != source.revision:
        events.warn(f"{where}: {_moving(source.revision, commit, begins)}")
    files = []
    for entry in filter_repo_objects(
        [entry for entry in entries if entry["Type"] != "tree"],
        allow_patterns=source.allow_patterns or None,
        ignore_patterns=source.ignore_patterns or None,
        key=lambda entry: entry["Path"],
    ):
        place = api.place("/repo", Revision=commit or source.revision, FilePath=entry["Path"])
        files.append(
            RemoteFile(
                path=entry["Path"],
                url=place.url,
                places=lambda place=place: [place],
                size=entry["Size"],
                sha256=(entry.get("Sha256") or "").lower() or None,
                version=commit or entry.get("Revision") or "",
            )
        )
    return Listing(
        files,
        {
            "model": source.model,
            "revision": source.revision,
            "resolved_revision": commit,
            "commit_begins": begins,
            "licence": info.get("License") or None,
        },
    )


def _moving(revision: str, commit: str | None, begins: str | None) -> str:
    """Say what a revision that may move is now."""
    if commit is None:
        return (
            f"ModelScope does not name the commit of {revision!r}"
            f"{f', which begins {begins},' if begins else ''} and the revision may move; what "
            "holds the bytes is the sha256 of each file, which is recorded"
        )
    return (
        f"{revision!r} may move; it is {commit} now. Name the commit in the recipe to fetch the "
        "same bytes the next time"
    )


class _Api:
    """The API's answers about one model."""

    def __init__(self, model: str, transfer: Transfer) -> None:
        endpoint = os.environ.get("MODELSCOPE_ENDPOINT") or "https://modelscope.cn"
        token = os.environ.get("MODELSCOPE_API_TOKEN")
        self._model = model
        self._home = f"{endpoint.rstrip('/')}/api/v1/models/{model}"
        # Older parts of the API look at the cookie only, newer ones at the other.
        self._headers = (
            {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}
        )
        self._http = Http(1, transfer.stall_seconds)

    def place(self, path: str, **query: str) -> Place:
        asked = f"?{urlencode(query)}" if query else ""
        return Place(f"{self._home}{path}{asked}", self._headers)

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """Return what an answer holds."""
        answer = self._http.json(self.place(path, **query))
        if not isinstance(answer, dict) or not isinstance(answer.get("Data"), dict):
            said = answer.get("Message") if isinstance(answer, dict) else None
            raise TransientError(f"ModelScope answered without data: {said}")
        return answer["Data"]

    def files(self, revision: str, root: str = "", recursive: bool = True) -> dict[str, Any]:
        """Return ``Files`` and ``LatestCommitter`` of a folder."""
        query = {"Revision": revision, "Recursive": str(recursive)}
        found = self.get("/repo/files", **query, **({"Root": root} if root else {}))
        return {**found, "Files": found.get("Files") or []}

    def entries(
        self, revision: str, found: list[dict[str, Any]], root: str = ""
    ) -> list[dict[str, Any]]:
        """Return all entries below a folder, asking folder by folder where it has many."""
        if len(found) < _LISTED:
            return found
        here = self.files(revision, root, recursive=False)["Files"]
        if len(here) >= _LISTED:
            raise InputError(
                f"modelscope model {self._model}: {root or 'the top'} has {len(here)} files or "
                "more, and ModelScope lists no more; fetch it from another source"
            )
        below = []
        for entry in here:
            if entry["Type"] == "tree":
                folder = entry["Path"]
                below += self.entries(revision, self.files(revision, folder)["Files"], folder)
        return here + below

    def revisions(self) -> list[str]:
        named = self.get("/revisions").get("RevisionMap") or {}
        return [e["Revision"] for kind in ("Branches", "Tags") for e in named.get(kind) or []]


def _commit(revision: str, tree: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the commit that was listed, and how it begins, as far as the answer says it.

    The API gives the first digits only. The whole of it stands at a file that the commit changed;
    one that only removed files is at none.
    """
    latest = tree.get("LatestCommitter") or {}
    begins = latest.get("ShortId") or None
    named = [latest.get("Id") or "", *(entry.get("Revision") or "" for entry in tree["Files"])]
    for commit in (revision, *named):
        whole = re.fullmatch("[0-9a-f]{40}", commit)
        if whole and (commit == revision or (begins and commit.startswith(begins))):
            return commit, commit[:8]
    return None, begins

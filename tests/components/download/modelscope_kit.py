"""A loopback server that answers as ModelScope does, its oddities included.

What it answers was taken from the requests of ModelScope's own client (``modelscope_hub`` 0.5) and
from answers of modelscope.cn that others wrote down: a range has status 200
(modelscope/modelscope_hub, issue 50), a revision that is not there has no files and status 200, a
listing ends after 3,000 entries without a word, the commit is named by its first digits.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.components.download.download_kit import Handler, Served, Server, serve

MODEL = "someone/some-model"
_HOME = f"/api/v1/models/{MODEL}"


@dataclass
class Repository:
    """A model repository."""

    commits: dict[str, dict[str, bytes]]
    """Commit to its files, the oldest first."""
    branches: dict[str, str]
    """Branch to commit."""
    tags: dict[str, str] = field(default_factory=dict)
    """Tag to commit."""
    token: str | None = None
    """What a private repository asks for."""
    listed: int = 3000
    """Entries in one listing at most."""

    def commit(self, revision: str) -> str | None:
        """Return the commit that a branch, tag or commit means."""
        known = {**self.branches, **self.tags, **{c: c for c in self.commits}}
        return known.get(revision)

    def changed(self, commit: str, path: str) -> str:
        """Return the commit that changed a file of a commit last."""
        history = list(self.commits)
        history = history[: history.index(commit) + 1]
        last = history[-1]
        for older in reversed(history):
            if self.commits[older].get(path) != self.commits[commit][path]:
                break
            last = older
        return last


def path_of(commit: str, name: str) -> str:
    """Return what a file of a commit is called in :class:`Served`."""
    return f"{_HOME}/repo/{commit}/{name}"


@contextmanager
def serve_modelscope(repository: Repository) -> Iterator[Server]:
    """Run the server; faults are laid on :func:`path_of` and on the API's own paths."""
    files = {
        path_of(commit, name): data
        for commit, tree in repository.commits.items()
        for name, data in tree.items()
    }
    bound = type("ModelScope", (_ModelScope,), {"repository": repository})
    with serve(Served(files=files, range_status=200), bound) as server:
        yield server


class _ModelScope(Handler):
    repository: Repository

    def answer(self, body: bool) -> None:
        """Answer a request of the API."""
        url = urlsplit(self.path)
        path, query = unquote(url.path), dict(parse_qsl(url.query))
        repository = self.repository
        answers = self.content.answers
        sent = self.headers.get("Authorization", "")
        if path.startswith(_HOME) and repository.token and repository.token not in sent:
            answers[path] = _refused(401, 10010201002, "token is required")
        elif path == _HOME:
            answers[path] = _answer({"Path": "someone", "License": "Apache License 2.0"})
        elif path == f"{_HOME}/revisions":
            answers[path] = _answer({"RevisionMap": self._revisions()})
        elif path == f"{_HOME}/repo/files":
            answers[path] = self._tree(query)
        elif path == f"{_HOME}/repo":
            commit = repository.commit(query["Revision"])
            path = path_of(commit or "", query["FilePath"])
        elif not path.startswith("/cdn/"):
            answers[path] = _refused(404, 10010205001, "record not found")
        self.answer_path(path, body)

    def _revisions(self) -> dict[str, list[dict[str, Any]]]:
        def named(revisions: dict[str, str]) -> list[dict[str, Any]]:
            return [{"Revision": name, "CreatedAt": 1700000000} for name in revisions]

        return {"Branches": named(self.repository.branches), "Tags": named(self.repository.tags)}

    def _tree(self, query: dict[str, str]) -> tuple[int, Any]:
        revision = query.get("Revision", "master")
        commit = self.repository.commit(revision)
        if commit is None and len(revision) == 40:
            return _refused(404, 10990101007, "revision not found")
        if commit is None:
            return _answer({"Files": None, "IsVisual": 0, "LatestCommitter": None})
        entries = _entries(self.repository, commit)
        root = query.get("Root", "").strip("/")
        below = [e for e in entries if not root or e["Path"].startswith(f"{root}/")]
        if query.get("Recursive", "False").lower() != "true":
            depth = root.count("/") + 1 if root else 0
            below = [e for e in below if e["Path"].count("/") == depth]
        latest = {"Id": "", "ShortId": commit[:8], "Name": "someone"}
        return _answer(
            {"Files": below[: self.repository.listed], "IsVisual": 0, "LatestCommitter": latest}
        )


def _entries(repository: Repository, commit: str) -> list[dict[str, Any]]:
    tree = repository.commits[commit]
    folders = {str(p) for name in tree for p in PurePosixPath(name).parents if str(p) != "."}
    entries = [_entry(name, "tree", b"", "", "") for name in folders]
    for name, data in tree.items():
        digest = hashlib.sha256(data).hexdigest()
        entries.append(_entry(name, "blob", data, digest, repository.changed(commit, name)))
    return sorted(entries, key=lambda entry: entry["Path"])


def _entry(path: str, kind: str, data: bytes, sha256: str, revision: str) -> dict[str, Any]:
    return {
        "CommitMessage": "",
        "CommittedDate": 1700000000,
        "CommitterName": "someone",
        "InCheck": False,
        "IsLFS": path.endswith(".safetensors"),
        "Mode": "16384" if kind == "tree" else "33188",
        "Name": PurePosixPath(path).name,
        "Path": path,
        "Revision": revision,
        "Sha256": sha256,
        "Size": len(data),
        "Type": kind,
    }


def _answer(data: Any) -> tuple[int, Any]:
    envelope = {"Code": 200, "Message": "success", "RequestId": "1", "Success": True}
    return 200, {**envelope, "Data": data}


def _refused(status: int, code: int, message: str) -> tuple[int, Any]:
    return status, {"Code": code, "Message": message, "RequestId": "1", "Success": False}

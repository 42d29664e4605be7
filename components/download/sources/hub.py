"""Repositories of the Hugging Face hub, through its own client."""

import os
import re
from typing import Any

from components.download.config import HubSource
from components.download.transfer.remote_file import Listing, Place, RemoteFile, XetFile
from omnistage.errors import InputError, TransientError
from omnistage.events import Events


def list_hub(source: HubSource, repo_type: str, events: Events) -> Listing:
    """Return a repository's matching files at one commit.

    The size of each file is known, and the sha256 of those in LFS or xet; the others have git's
    own blob hash. The token is ``HF_TOKEN``, the hub ``HF_ENDPOINT``.

    Args:
        source: Which repository, revision and files.
        repo_type: ``dataset`` or ``model``.
        events: Where a warning about a moving branch goes.

    Raises:
        InputError: If it is not there or may not be read.
        TransientError: If the hub does not answer.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, filter_repo_objects

    endpoint = os.environ.get("HF_ENDPOINT") or None
    token = os.environ.get("HF_TOKEN") or False
    where = f"hub {repo_type} {source.repo}"
    info, entries = _entries(source, repo_type, where, endpoint, token)
    commit = info.sha
    if not re.fullmatch("[0-9a-f]{40}", source.revision):
        events.warn(
            f"{where}: {source.revision!r} may move; it is {commit} now. Name the commit in the "
            "recipe to fetch the same bytes the next time"
        )
    headers = build_hf_headers(token=token)
    files = []
    for entry in filter_repo_objects(
        entries,
        allow_patterns=source.allow_patterns or None,
        ignore_patterns=source.ignore_patterns or None,
        key=lambda entry: entry.path,
    ):
        url = hf_hub_url(
            source.repo, entry.path, repo_type=repo_type, revision=commit, endpoint=endpoint
        )
        xet = XetFile(source.repo, repo_type, commit, entry.path, endpoint)
        files.append(
            RemoteFile(
                path=entry.path,
                url=url,
                places=lambda url=url: [Place(url, headers)],
                size=entry.size,
                sha256=entry.lfs.sha256 if entry.lfs else None,
                git_sha1=None if entry.lfs else entry.blob_id,
                version=commit,
                xet=xet if entry.xet_hash else None,
            )
        )
    record = {
        "repo": source.repo,
        "repo_type": repo_type,
        "revision": source.revision,
        "resolved_revision": commit,
        "licence": _licence(info),
    }
    return Listing(files, record)


def _entries(
    source: HubSource, repo_type: str, where: str, endpoint: str | None, token: str | bool
) -> tuple[Any, list[Any]]:
    """Return what the hub says of a repository, and its files at the commit that it names.

    Raises:
        InputError: If it is not there or may not be read.
        TransientError: If the hub does not answer.
    """
    import httpx
    from huggingface_hub import HfApi, errors
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(endpoint=endpoint, token=token)
    try:
        info = api.repo_info(source.repo, repo_type=repo_type, revision=source.revision)
        if not info.sha:
            raise InputError(f"{where}: the hub names no commit for {source.revision!r}")
        tree = api.list_repo_tree(
            source.repo, recursive=True, revision=info.sha, repo_type=repo_type
        )
        return info, [entry for entry in tree if isinstance(entry, RepoFile)]
    except errors.GatedRepoError as e:
        raise InputError(
            f"{where}: access is gated; accept its terms on its page and set HF_TOKEN"
        ) from e
    except errors.RepositoryNotFoundError as e:
        raise InputError(
            f"{where}: not found, or private; check the name, and set HF_TOKEN if it is private"
        ) from e
    except errors.RevisionNotFoundError as e:
        raise InputError(f"{where}: has no revision {source.revision!r}") from e
    except errors.HfHubHTTPError as e:
        status = e.response.status_code if e.response is not None else 0
        if 400 <= status < 500 and status not in (408, 429):
            raise InputError(f"{where}: the hub answered {status}") from e
        said = e.response.headers.get("Retry-After", "") if e.response is not None else ""
        wait = min(float(said), 120.0) if said.isdigit() else None
        raise TransientError(f"the hub answered {status}", wait) from e
    except (httpx.HTTPError, OSError) as e:
        raise TransientError(f"{type(e).__name__}: {e}") from e


def _licence(info: object) -> str | None:
    """Return the licence that the repository's card names."""
    card = getattr(info, "card_data", None)
    licence = card.get("license") if card else None
    tags = getattr(info, "tags", None) or []
    tagged = next((t.partition(":")[2] for t in tags if t.startswith("license:")), None)
    if isinstance(licence, list):
        licence = ", ".join(map(str, licence))
    return str(licence) if licence else tagged

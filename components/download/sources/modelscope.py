"""Models of ModelScope, listed through its own client."""

from components.download.config import ModelScopeSource, Transfer
from components.download.http import PassingError
from components.download.remote import Listing, Place, RemoteFile
from omnistage.errors import InputError
from omnistage.events import Events


def list_modelscope(source: ModelScopeSource, transfer: Transfer, events: Events) -> Listing:
    """Return a model's matching files.

    ModelScope does not name the commit behind a branch; what pins the bytes is the sha256 that it
    states for each file. The client reads ``MODELSCOPE_ENDPOINT`` and ``MODELSCOPE_API_TOKEN``.

    Raises:
        InputError: If it is not there or may not be read, or the client is not installed.
        PassingError: If ModelScope does not answer.
    """
    from huggingface_hub.utils import filter_repo_objects

    try:
        from modelscope_hub import HubApi, errors
    except ImportError as e:
        raise InputError("a modelscope source needs its client: install omnistage[pipeline]") from e
    where = f"modelscope model {source.model}"
    api = HubApi()
    try:
        entries = api.list_repo_files(source.model, "model", revision=source.revision)
    except (errors.AuthenticationError, errors.PermissionDeniedError) as e:
        raise InputError(f"{where}: access is denied; set MODELSCOPE_API_TOKEN") from e
    except (errors.NotExistError, errors.InvalidParameter) as e:
        raise InputError(f"{where}: no such model or revision {source.revision!r}") from e
    except (errors.HubError, OSError) as e:
        raise PassingError(f"{type(e).__name__}: {e}") from e
    events.warn(f"{where}: revision {source.revision!r} may move; its files' sha256 are recorded")
    token = api.legacy.token
    headers = {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"}
    files = []
    for entry in filter_repo_objects(
        [e for e in entries if not e.is_dir],
        allow_patterns=source.allow_patterns or None,
        ignore_patterns=source.ignore_patterns or None,
        key=lambda entry: entry.path,
    ):
        url = api.legacy.get_download_url(
            repo_id=source.model, repo_type="model", file_path=entry.path, revision=source.revision
        )
        place = Place(url, headers if token else {})
        files.append(
            RemoteFile(
                path=entry.path,
                url=url,
                places=lambda place=place: [place],
                size=entry.size,
                sha256=entry.sha256,
                version=source.revision,
            )
        )
    return Listing(files, {"model": source.model, "revision": source.revision})

"""Brings an exported folder where it was asked for: a folder, a bucket, a hub."""

import os
import re
from pathlib import Path

from omnistage.errors import InputError, TransientError, machine_errors

HUB = "hub:"


def check_target(target: str) -> None:
    """Check, before anything is made, that a target is one and has nothing that would be lost.

    Raises:
        InputError: If it is not, or holds something already.
    """
    if target.startswith("s3://"):
        from omnistage.store import objects  # boto3 takes half a second to import

        if next(objects.list_below(f"{target.rstrip('/')}/"), None):
            raise InputError(f"--to {target}: there are objects already; name another prefix")
    elif target.startswith(HUB):
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", target.removeprefix(HUB)):
            raise InputError(f"--to {target}: hub:owner/name is needed")
        if not os.environ.get("HF_TOKEN"):
            raise InputError(f"--to {target}: set HF_TOKEN to a token that may write there")
    elif Path(target).exists():
        raise InputError(f"--to {target}: is there already; name a folder that is not")


def workplace(target: str, scratch: Path) -> Path:
    """Return the folder to make an export in: beside a folder, so that it is moved and not copied.

    Args:
        target: Where it goes.
        scratch: The node's own, for what goes elsewhere.
    """
    remote = target.startswith(("s3://", HUB))
    folder = scratch if remote else Path(target).absolute().parent
    with machine_errors(f"writing {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def deliver(folder: Path, target: str) -> None:
    """Bring a folder to a target; another folder is there whole or not at all.

    Args:
        folder: Moved, where the target is a folder.
        target: A folder, ``s3://…`` or ``hub:owner/name``.

    Raises:
        InputError: If the target cannot be written, or refuses.
        TransientError: If it does not answer.
    """
    if target.startswith("s3://"):
        _to_bucket(folder, target.rstrip("/"))
    elif target.startswith(HUB):
        _to_hub(folder, target.removeprefix(HUB))
    else:
        with machine_errors(f"writing {target}"):
            folder.rename(target)


def _to_bucket(folder: Path, target: str) -> None:
    from omnistage.store import objects

    # The card is last: who sees it sees a whole model.
    for path in sorted(folder.iterdir(), key=lambda p: (p.name == "README.md", p.name)):
        objects.upload(path, f"{target}/{path.name}")


def _to_hub(folder: Path, repo: str) -> None:
    import httpx
    from huggingface_hub import HfApi, errors

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=os.environ["HF_TOKEN"])
    try:
        api.create_repo(repo, private=True, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Export from omnistage")
    except errors.HfHubHTTPError as e:
        status = e.response.status_code if e.response is not None else 0
        if 400 <= status < 500 and status not in (408, 429):
            raise InputError(
                f"hub {repo}: refused with {status}; may the token HF_TOKEN write there?"
            ) from e
        raise TransientError(f"hub {repo}: it answered {status}") from e
    except (httpx.HTTPError, OSError) as e:
        raise TransientError(f"hub {repo}: {type(e).__name__}: {e}") from e

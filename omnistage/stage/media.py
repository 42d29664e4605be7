"""The folder that the media paths of a stage's records are relative to."""

import hashlib
from pathlib import Path
from typing import Any

from omnistage.archives.media_root import media_root
from omnistage.files import locked
from omnistage.stage.contract import Context


def records_root(context: Context[Any]) -> Path:
    """Return the folder that the media paths of the input ``records`` are relative to.

    Of records of one data set that is the set's media root. Records that are mixed from several
    have paths that begin with the number of their set among the inputs ``data``, from 1, so the
    folder has a link of that name for each.
    """
    sets = context.several("data")
    scratch, events = context.store.scratch, context.events
    roots = [media_root(context.files(m, "data"), m.digest, scratch, events) for m in sets]
    if len(roots) == 1:
        return roots[0]
    names = "\n".join(map(str, roots))
    folder = scratch / "mixed" / hashlib.sha256(names.encode()).hexdigest()[:32]
    with locked(folder.with_suffix(".lock")):
        folder.mkdir(parents=True, exist_ok=True)
        for number, root in enumerate(roots, 1):
            link = folder / str(number)
            if not link.is_symlink():
                link.symlink_to(root, target_is_directory=True)
    return folder


def data_digests(context: Context[Any]) -> list[str]:
    """Return the digest of each data set that the records come from, in order."""
    return [manifest.digest for manifest in context.several("data")]

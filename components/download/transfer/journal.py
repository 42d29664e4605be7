"""What is verified already: survives a kill, so that nothing verified is fetched again."""

import os
from pathlib import Path
from typing import Any

import orjson

from components.download.transfer.remote_file import RemoteFile
from omnistage.files import boot_id, sha256_file


class Journal:
    """A line for each verified file, appended before the file gets its final name.

    Args:
        path: The journal.
        final: Folder of the final names.
    """

    def __init__(self, path: Path, final: Path) -> None:
        self._path = path
        self._final = final
        self._entries: dict[str, dict[str, Any]] = {}
        if path.is_file():
            for line in path.read_bytes().splitlines():
                try:
                    entry = orjson.loads(line)
                except orjson.JSONDecodeError:
                    continue  # the line that a kill cut short: its file is verified again
                self._entries[entry["path"]] = entry

    def find(self, file: RemoteFile, part: Path) -> dict[str, Any] | None:
        """Return a verified file's entry if the file is still what was verified.

        Args:
            file: The file as the source lists it now.
            part: Its part file, moved to its final name if a kill came before that.
        """
        entry = self._entries.get(file.path)
        if entry is None or entry["identity"] != file.identity:
            return None
        final = self._final / file.path
        if not final.exists() and part.is_file():
            final.parent.mkdir(parents=True, exist_ok=True)
            part.replace(final)
        try:
            state = final.stat()
        except FileNotFoundError:
            return None
        if (state.st_size, state.st_mtime_ns) != (entry["size"], entry["mtime_ns"]):
            return None
        # After a reboot the size may be on the disk and the bytes not.
        if entry["boot"] != boot_id() and sha256_file(final) != entry["sha256"]:
            return None
        return entry

    def add(self, file: RemoteFile, part: Path, found: dict[str, Any]) -> dict[str, Any]:
        """Record a verified file and return its entry."""
        entry = {
            "path": file.path,
            "identity": file.identity,
            "sha256": found["sha256"],
            "size": found["size"],
            "media": found["media"],
            "mtime_ns": part.stat().st_mtime_ns,
            "boot": boot_id(),
        }
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, b"\n" + orjson.dumps(entry) + b"\n")
        finally:
            os.close(handle)
        self._entries[file.path] = entry
        return entry

"""Fetch one file with the hub's xet protocol, in a process of its own that can be killed.

The xet client is compiled code with threads of its own: when its line stalls, it neither returns
nor raises. Its folder is watched from here, and a process that writes nothing is killed.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from components.download.transfer.remote_file import XetFile

_STARTED = "started"  # file that says the client is loaded and the line is on trial
_START_SECONDS = 60  # for loading it, which a busy machine may take its time for


def fetch_by_xet(
    file: XetFile, target: Path, stall_seconds: float, stopped: Callable[[], bool]
) -> str | None:
    """Fetch a file to ``target``.

    Args:
        file: Which.
        target: Where to; replaced when the file is whole.
        stall_seconds: Without a new byte for so long, it is given up.
        stopped: Asked now and then whether to give up at once.

    Returns:
        None when it is there, else what went wrong.
    """
    if os.environ.get("HF_HUB_DISABLE_XET") or importlib.util.find_spec("hf_xet") is None:
        return "it is switched off or not installed"
    folder = target.with_name(target.name + ".xet")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    request = orjson.dumps(
        {
            "repo_id": file.repo,
            "repo_type": file.repo_type,
            "revision": file.revision,
            "filename": file.name,
            "endpoint": file.endpoint,
            "local_dir": str(folder / "file"),
        }
    )
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "components.download.transfer.xet", request.decode()],
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "HF_HOME": str(folder / "home"),
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            },
        )
        try:
            problem = _watch(process, folder, stall_seconds, stopped)
            if problem is None and process.returncode:
                log.seek(0)
                lines = log.read().decode(errors="replace").strip().splitlines()
                problem = lines[-1][:300] if lines else f"exit code {process.returncode}"
        finally:
            process.kill()
            process.wait()
    if problem is None:
        (folder / "file" / file.name).replace(target)
    shutil.rmtree(folder, ignore_errors=True)
    return problem


def _watch(
    process: "subprocess.Popen[bytes]", folder: Path, stall: float, stopped: Callable[[], bool]
) -> str | None:
    began = since = time.monotonic()
    size = -1
    while process.poll() is None:
        if stopped():
            return "the work was stopped"
        now = _allocated(folder)
        starting = not (folder / _STARTED).exists() and time.monotonic() - began < _START_SECONDS
        if now != size or starting:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > stall:
            return f"no new bytes for {stall:.0f} s"
        time.sleep(0.05)
    return None


def _allocated(folder: Path) -> int:
    """Return the bytes on disk below a folder; sizes alone may be set before the bytes come."""
    total = 0
    for path in folder.rglob("*"):
        try:
            state = path.stat()
        except FileNotFoundError:  # renamed while we look
            continue
        total += state.st_blocks * 512 + state.st_size
    return total


def _main() -> None:
    from huggingface_hub import hf_hub_download

    request = orjson.loads(sys.argv[1])
    (Path(request["local_dir"]).parent / _STARTED).touch()
    hf_hub_download(**request, token=os.environ.get("HF_TOKEN") or None)


if __name__ == "__main__":
    _main()

"""``omnistage doctor``: checks of this machine for ``omnistage run``."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from omnistage.doctor.check import Check, fail, ok, warn
from omnistage.errors import InputError, OmnistageError
from omnistage.files import human_bytes
from omnistage.stage.key import pinned_version
from omnistage.swift.training.train import LIBRARIES
from omnistage.torchrun.job import gpu_count

_GIB = 1 << 30


_DISK_WARN, _DISK_FAIL = 50 * _GIB, 2 * _GIB
_SHM_WARN = 1 * _GIB
_MEMORY_WARN = 8 * _GIB


def check_machine(home: Path, store: str) -> Iterator[Check]:
    """Check this machine for ``omnistage run``.

    Args:
        home: omnistage's folder.
        store: URI of the store.
    """
    yield python_check(sys.version_info[:2])
    yield from (package_check(name, _installed(name)) for name in LIBRARIES)
    yield kfp_check(_installed("kfp"))
    yield gpu_check(gpu_count(), _cuda() if gpu_count() else "")
    yield disk_check("disk", shutil.disk_usage(_existing(home)).free, home)
    yield shm_check(shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 0)
    yield memory_check(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    yield store_check(store)


def python_check(version: tuple[int, int]) -> Check:
    """Check the Python version."""
    found = ".".join(map(str, version))
    if (3, 11) <= version < (3, 13):
        return ok("python", found)
    return fail("python", found, "use Python 3.11 or 3.12: `uv venv --python 3.11`")


def package_check(name: str, version: str | None) -> Check:
    """Check a package whose version decides results."""
    wanted = pinned_version(name)
    if version is None:
        return fail(name, "not installed", "training runs here need it: uv sync --extra train")
    # A local build, such as 2.13.0+cu130, is the same release.
    if version.partition("+")[0] != wanted:
        return fail(name, f"{version}, not {wanted}", "uv sync --extra train --frozen")
    return ok(name, version)


def kfp_check(version: str | None) -> Check:
    """Check KFP's SDK, which runs pipelines here too."""
    if version is None:
        return fail("kfp", "not installed", "uv sync --extra pipeline")
    wanted = _pinned_extra("kfp")
    if wanted and version != wanted:
        return fail("kfp", f"{version}, not {wanted}", "uv sync --extra pipeline --frozen")
    return ok("kfp", version)


def gpu_check(count: int, cuda: str) -> Check:
    """Check the GPUs.

    Args:
        count: GPUs that have a device file.
        cuda: What torch says of them; empty if it can use them.
    """
    if not count:
        return warn("gpu", "none", "the tiny recipe runs on a CPU; models of 3B need a GPU")
    if cuda:
        return fail("gpu", f"{count}, but torch cannot use them: {cuda}", "update NVIDIA's driver")
    return ok("gpu", f"{count}, usable by torch")


def disk_check(name: str, free: int, where: Path) -> Check:
    """Check the free space for models, media and checkpoints."""
    found = f"{human_bytes(free)} free at {where}"
    if free < _DISK_FAIL:
        return fail(name, found, "free some space, or give --home on another disk")
    if free < _DISK_WARN:
        advice = "enough for the tiny recipe; a 3B model with its data needs about 200 GB"
        return warn(name, found, advice)
    return ok(name, found)


def shm_check(free: int) -> Check:
    """Check the shared memory, over which data loaders and NCCL talk."""
    found = f"{human_bytes(free)} free at /dev/shm"
    if free < _SHM_WARN:
        return warn("shm", found, "start the container with --shm-size=16g for several GPUs")
    return ok("shm", found)


def memory_check(size: int) -> Check:
    """Check the machine's memory."""
    if size < _MEMORY_WARN:
        return warn("memory", human_bytes(size), "loading a 3B model takes about 16 GB")
    return ok("memory", human_bytes(size))


def store_check(store: str) -> Check:
    """Write a small file to a store, read it and remove it.

    Args:
        store: Its URI.
    """
    name = f"runs/.doctor-{uuid.uuid4().hex[:8]}"
    try:
        if store.startswith("s3://"):
            _probe_s3(f"{store.rstrip('/')}/{name}")
        else:
            from omnistage.store.uris import uri_path

            folder = uri_path(store)
            with tempfile.TemporaryDirectory(dir=_existing(folder), prefix=".doctor-"):
                pass
    except (OmnistageError, OSError) as e:
        return fail("store", str(e), "check --store, AWS_ENDPOINT_URL_S3 and the credentials")
    return ok("store", f"{store} can be written")


def _probe_s3(uri: str) -> None:
    from omnistage.store import objects  # boto3 takes half a second

    objects.write(uri, b"doctor")
    same = objects.read(uri) == b"doctor"
    objects.delete([uri])
    if not same:
        raise InputError(f"{uri}: what was written was not what was read")


def _existing(path: Path) -> Path:
    """Return the nearest folder that is there."""
    path = path.absolute()
    while not path.is_dir():
        path = path.parent
    return path


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _pinned_extra(name: str) -> str:
    for line in importlib.metadata.requires("omnistage") or []:
        package, equals, rest = line.partition("==")
        if equals and package.partition("[")[0] == name:
            return rest.partition(";")[0].strip()
    return ""


def _cuda() -> str:
    """Return why torch cannot use the GPUs, or nothing; in a process of its own."""
    code = "import torch; torch.cuda.init(); print(torch.cuda.device_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr.strip().rpartition("\n")[2]

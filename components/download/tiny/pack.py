"""Packs generated files into archives whose bytes depend on nothing but the files."""

import gzip
import io
import tarfile
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path

_DATE = 1735689600  # of every member: 2025-01-01, in seconds since 1970


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write a ``.tar.gz`` of members, each a name and its bytes."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=_DATE) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(content), _DATE, 0o644
            archive.addfile(info, io.BytesIO(content))


def write_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write a ``.zip`` of members, each a name and its bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name, time.gmtime(_DATE)[:6])
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, content)

"""The real soundfile, with the faults of C code: put this folder on PYTHONPATH to get it.

A sound that contains one of these words does to the process what a broken decoder would do.
"""

import ctypes
import importlib.util
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, BinaryIO

_HERE = str(Path(__file__).parent)
_SPEC = PathFinder.find_spec("soundfile", [path for path in sys.path if path != _HERE])
assert _SPEC is not None
assert _SPEC.loader is not None
_REAL = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_REAL)
LibsndfileError = _REAL.LibsndfileError
_probed = 0


def SoundFile(file: BinaryIO) -> Any:  # noqa: N802  # the name that it stands for
    """Open a sound, or crash."""
    global _probed
    _probed += 1
    data = file.read()
    file.seek(0)
    if b"SEGFAULT" in data or (b"FRAGILE" in data and _probed > 1):
        ctypes.string_at(0)
    if b"ABORT" in data:
        os.abort()
    if b"ENDLESS" in data:
        print("endless", flush=True)
        while True:
            pass
    if b"GREEDY" in data:
        bytearray(1 << 40)
    return _REAL.SoundFile(file)

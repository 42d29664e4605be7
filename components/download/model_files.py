"""What of a stranger's model folder may reach a trainer: weights and settings, no code.

ms-swift loads models with ``trust_remote_code``, so an ``auto_map`` in a settings file would run
the repository's Python with the user's tokens in reach, and a pickle runs what it likes when it is
loaded. The model families that are trained here have classes of their own and need neither.
"""

import pickletools
import re
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from omnistage.errors import InputError
from omnistage.files import one_line, walk, write_json
from omnistage.store.manifest import path_problem

_REMOTE = frozenset({"auto_map", "audio_tokenizer"})
"""Keys of settings that have another model's code or weights loaded by name."""
_SETTINGS = re.compile(r"(.*config|config\..*)\.json")
"""Where transformers reads settings; ``config.json`` may name ``config.<version>.json``."""
_LARGEST_SETTINGS = 1 << 26  # bytes
_MAGIC = re.compile(rb"\x80[\x02-\x05]|PK\x03\x04")  # of a pickle since protocol 2, of a zip
_CODE = frozenset({"py", "pyc", "pyx", "so", "dll", "dylib", "sh"})
_PICKLES = frozenset(
    {"bin", "pt", "pth", "pkl", "pickle", "ckpt", "joblib", "dill", "npy", "npz", "h5", "keras"}
)
_SPEAKERS = "spk_dict.pt"  # Qwen2.5-Omni's voices, without which its class does not load
_REBUILD = frozenset({"collections OrderedDict", "torch._utils _rebuild_tensor_v2"})
_KINDS = ["Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool"]
_STORAGES = frozenset(f"torch {kind}Storage" for kind in _KINDS)
_LARGEST_PICKLE = 1 << 24  # bytes; it names tensors and does not hold them
_FETCHES_BY_NAME = frozenset({"STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4", "PERSID"})


def unsafe(path: str) -> str | None:
    """Say why a file of a model repository is left out, by its name; None for one that is not."""
    extension = PurePosixPath(path).suffix.lower().lstrip(".")
    if extension in _CODE:
        return "code"
    if extension in _PICKLES and path != _SPEAKERS:
        return "a pickle, or weights that may hold one"
    return None


def check_weights(names: list[str], left_out: list[str]) -> None:
    """Refuse a model all of whose weights are pickles.

    Raises:
        InputError: Naming one of them.
    """
    weights = [name for name in left_out if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    if weights and not any(name.endswith(".safetensors") for name in names):
        raise InputError(
            f"download_model: the weights are pickles ({weights[0]}), which run code when they are "
            "loaded; use a revision with .safetensors, or convert them on a machine you can lose"
        )


def make_safe(folder: Path, warn: Callable[[str], None]) -> tuple[list[str], list[str]]:
    """Take out of a fetched model what could run, as far as names do not tell it.

    Args:
        folder: The model folder, without what :func:`unsafe` leaves out; changed in place.
        warn: Told of each file that is removed or changed.

    Returns:
        The files that were removed, and those that were changed.

    Raises:
        InputError: If a file is not what its name says.
    """
    check_speakers(folder)
    removed = remove_hidden_pickles(folder)
    for path in removed:
        warn(f"{path} is left out: it is a pickle or an archive under another name")
    check_shards(folder)
    stripped = strip_remote_code(folder)
    for path in stripped:
        warn(
            f"{path}: auto_map or audio_tokenizer is taken out: it runs code of the repository, or "
            "loads another one"
        )
    return removed, stripped


def strip_remote_code(folder: Path) -> list[str]:
    """Take what has other models' code loaded out of a model's settings files, at any depth.

    Args:
        folder: The model folder; changed in place.

    Returns:
        The files that had one.

    Raises:
        InputError: If a settings file is not JSON, or is too large or too deep for settings.
    """
    changed = []
    for path in sorted(walk(folder)):
        if not path.is_file() or not _SETTINGS.fullmatch(path.name):
            continue
        name = path.relative_to(folder).as_posix()
        value = _settings(path, name)
        try:
            stripped = _without_remote(value)
            if stripped != value:
                write_json(path, stripped)
                changed.append(name)
        except (RecursionError, orjson.JSONEncodeError) as e:
            raise InputError(f"download_model: {name}: nested too deeply for settings") from e
    return changed


def _settings(path: Path, name: str) -> Any:
    if path.stat().st_size > _LARGEST_SETTINGS:
        raise InputError(f"download_model: {name}: over {_LARGEST_SETTINGS} bytes of settings")
    try:
        return orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as e:
        raise InputError(f"download_model: {name} is not JSON: {e}") from e


def remove_hidden_pickles(folder: Path) -> list[str]:
    """Remove pickles and zips, which torch keeps them in, under other names; return their paths.

    They are known by their first bytes. Pickles of protocol 0 and 1 have no such bytes, and no
    loader takes a file of another name for one. Settings that are none are refused as such.
    """
    found = []
    for path in sorted(walk(folder)):
        name = path.relative_to(folder).as_posix()
        known = name == _SPEAKERS or _SETTINGS.fullmatch(path.name)
        if path.is_file() and not known and _is_pickle(path):
            path.unlink()
            found.append(name)
    return found


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as f:
        # Not of .safetensors, whose first bytes are a length and whose loader runs nothing.
        return path.suffix != ".safetensors" and bool(_MAGIC.match(f.read(4)))


def check_shards(folder: Path) -> None:
    """Refuse an index of weights that names other files than the model's own.

    Raises:
        InputError: If it is none, or names a file that is not there.
    """
    for path in sorted(folder.glob("*.safetensors.index.json")):
        try:
            shards = set(_settings(path, path.name)["weight_map"].values())
            strange = [s for s in shards if path_problem(s) or not (folder / s).is_file()]
        except (AttributeError, KeyError, TypeError) as e:
            raise InputError(f"download_model: {path.name}: not an index of weights") from e
        if strange:
            named = one_line(min(strange))
            raise InputError(f"download_model: {path.name}: {named!r} is not one of the files")


def model_type(folder: Path) -> str | None:
    """Return the ``model_type`` of a model's ``config.json``, if it names one."""
    value = orjson.loads((folder / "config.json").read_bytes())
    found = value.get("model_type") if isinstance(value, dict) else None
    return found if isinstance(found, str) else None


def check_speakers(folder: Path) -> None:
    """Refuse a ``spk_dict.pt`` that holds anything but tensors.

    Its pickle is read and never run: what it may fetch by name is what torch's own loader for
    weights builds tensors with, so that it stays harmless under any loader.

    Raises:
        InputError: Naming what it would call.
    """
    path = folder / _SPEAKERS
    if not path.is_file():
        return
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith(".pkl")]
            if any(archive.getinfo(name).file_size > _LARGEST_PICKLE for name in pickles):
                raise ValueError(f"a pickle of over {_LARGEST_PICKLE} bytes")
            others = [name for name in archive.namelist() if "/code/" in name]
            programs = [archive.read(name) for name in pickles]
        calls = [call for program in programs for call in _names_in(program)]
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, RuntimeError) as e:
        raise InputError(f"download_model: {_SPEAKERS} is not a file of tensors: {e}") from e
    foreign = [*others, *(call for call in calls if call not in _REBUILD | _STORAGES)]
    if len(pickles) != 1 or not pickles[0].endswith("/data.pkl"):
        foreign.append("another pickle")
    if foreign:
        raise InputError(
            f"download_model: {_SPEAKERS} is refused: it holds {foreign[0]!r} and not only tensors"
        )


def _names_in(program: bytes) -> list[str]:
    """Return what a pickle fetches by name; what cannot be told counts as its opcode's name."""
    found = []
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name == "GLOBAL":
            found.append(str(argument))
        elif opcode.name in _FETCHES_BY_NAME:
            found.append(opcode.name)
    return found


def _without_remote(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_remote(v) for k, v in value.items() if k not in _REMOTE}
    return [_without_remote(v) for v in value] if isinstance(value, list) else value

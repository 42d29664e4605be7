"""The stage key: what decides a stage's result, as a hash."""

import hashlib
import importlib.metadata
import re
from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict

from omnistage.errors import InputError
from omnistage.settings import C, key_config
from omnistage.stage.contract import Stage
from omnistage.store.manifest import Manifest, content_digest


@cache
def pinned_version(package: str) -> str:
    """Return the version that omnistage pins for a package, installed here or not.

    The launcher image computes the keys of training stages without having torch.

    Raises:
        InputError: If omnistage does not pin it with ``==``.
    """
    for line in importlib.metadata.requires("omnistage") or []:
        found = re.match(r"([A-Za-z0-9._-]+)==([^;\s]+)", line)
        if found and found[1].lower() == package.lower():
            return found[2]
    raise InputError(f"{package}: not pinned with == in omnistage's pyproject.toml")


class KeyParts(BaseModel):
    """What decides a stage's output. The same on a laptop and on a cluster."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    version: int
    config: dict[str, Any]
    """The settings that decide the result."""
    inputs: dict[str, str]
    """Digest of what is read of each input."""
    libraries: dict[str, str]
    """Pinned version of each library that decides the result."""

    @cached_property
    def key(self) -> str:
        """The key: 32 hex digits of the sha256 over all of it."""
        parts = orjson.dumps(self.model_dump(), option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(parts).hexdigest()[:32]

    def check(self, here: "KeyParts") -> None:
        """Check that a process which was told to make this output would make just this.

        Args:
            here: What that process computes from the same settings and inputs.

        Raises:
            InputError: Naming everything that differs.
        """
        if here.key == self.key:
            return
        there, own = _flat(self.model_dump()), _flat(here.model_dump())
        different = [
            f"{_part(name)} is {own.get(name, 'not there')} here and "
            f"{there.get(name, 'not there')} where the run was decided"
            for name in sorted(there.keys() | own.keys())
            if own.get(name) != there.get(name)
        ]
        raise InputError(
            f"{here.stage}: this process computes the key {here.key}, not {self.key}: "
            f"{'; '.join(different)}. Use the launcher and the trainer image of one omnistage "
            "release"
        )


def input_digests(stage: Stage[C], inputs: Mapping[str, Manifest]) -> dict[str, str]:
    """Return the digest of what a stage reads of each input, see ``Stage.reads``."""
    return {
        name: content_digest([f for f in manifest.files if f.path in reads])
        if (reads := stage.reads.get(stage.declared(name) or name)) is not None
        else manifest.digest
        for name, manifest in inputs.items()
    }


def key_parts(stage: Stage[C], config: C, digests: Mapping[str, str]) -> KeyParts:
    """Return what decides a stage's output.

    Args:
        stage: The stage.
        config: Its settings.
        digests: Of each of its inputs, see :func:`input_digests`.
    """
    return KeyParts(
        stage=stage.name,
        version=stage.version,
        config=key_config(config),
        inputs=dict(digests),
        libraries={name: pinned_version(name) for name in stage.libraries},
    )


def stage_key(stage: Stage[C], config: C, digests: Mapping[str, str]) -> str:
    """Return the key of a stage's output, see :func:`key_parts`."""
    return key_parts(stage, config, digests).key


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Return the values of nested mappings as JSON, by dotted name."""
    if not isinstance(value, dict) or not value:
        return {name: orjson.dumps(value).decode()}
    found: dict[str, str] = {}
    for key, below in value.items():
        found |= _flat(below, f"{name}.{key}" if name else key)
    return found


def _part(name: str) -> str:
    kind, _, rest = name.partition(".")
    words = {"libraries": "library", "config": "setting", "inputs": "input"}
    return f"{words[kind]} {rest}" if kind in words and rest else f"stage {kind}"

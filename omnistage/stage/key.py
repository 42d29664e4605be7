"""The stage key: what decides a stage's result, as a hash."""

import hashlib
import importlib.metadata
import re
from collections.abc import Mapping
from functools import cache

import orjson

from omnistage.errors import InputError
from omnistage.settings import C, key_config
from omnistage.stage.contract import Stage


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


def stage_key(stage: Stage[C], config: C, digests: Mapping[str, str]) -> str:
    """Return the key of a stage's output: 32 hex digits.

    It is the sha256 over the stage's name and version, the settings that decide the result, the
    content digests of the inputs, and the pinned versions of the libraries that decide it. The
    same on a laptop and on a cluster.
    """
    parts = {
        "stage": stage.name,
        "version": stage.version,
        "config": key_config(config),
        "inputs": dict(digests),
        "libraries": {name: pinned_version(name) for name in stage.libraries},
    }
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]

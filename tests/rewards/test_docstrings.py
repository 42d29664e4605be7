"""A reward's docstring says its range, the published definition, what differs, and shows a use."""

import doctest
import importlib
import inspect
import math
import pkgutil
import re

import pytest

from omnistage import rewards
from omnistage.rewards import RANGES, REWARDS

MODULES = sorted(m.name for m in pkgutil.walk_packages(rewards.__path__, "omnistage.rewards."))
TABLE = "| case | published | here | why |"


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", REWARDS)
def test_a_reward_describes_itself(name: str):
    text = inspect.getdoc(REWARDS[name]) or ""
    first = text.split("\n\n")[0].replace("\n", " ")
    low, high = RANGES[name]
    if math.isinf(high):
        assert "its own range" in first
    else:
        said = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", first.split(", ")[-1])]
        assert (min(said), max(said)) == (low, high), first
    assert "Published (" in text or "Not published" in text
    assert (
        TABLE in text
        or "Here it is the same" in text
        or "as for " in text
        or ("Not published" in text)
    )
    assert ">>> " in text.partition("Example:")[2]

"""A user's own rewards: ``path.py:function`` in place of a reward's name.

The function is called as every reward is, ``function(completions, **columns)``, and returns a
number or None for each completion. It may import what the trainer's image has. The recipe names a
file; what travels to the training processes and counts for the stage key is the file's text::

    # brevity.py
    def brief(completions, **columns):
        return [1.0 if len(text) < 400 else 0.0 for text in completions]

    # recipe
    grpo:
      reward_weights: {mm_content: 1.0, ./brevity.py:brief: 0.2}
"""

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from omnistage.errors import InputError
from omnistage.rewards.columns import RewardFunction

OWN = re.compile(r"(?P<path>[^:]+\.py):(?P<function>[A-Za-z_]\w*)")


def with_code(values: Any) -> Any:
    """Return a section of a recipe with the text of its own rewards beside their weights.

    ``{reward_weights: {a/b.py:f: 1}}`` becomes ``{reward_weights: {b.py:f: 1}, reward_code:
    {b.py:f: <text>}}``; where the text is already given, as in a pod, no file is read.

    Raises:
        ValueError: If a file is not there, is not Python or does not define the function at its
            top; if two files have the same name.
    """
    weights = values.get("reward_weights") if isinstance(values, Mapping) else None
    if not isinstance(weights, Mapping):
        return values
    given = values.get("reward_code") or {}
    renamed: dict[str, Any] = {}
    code: dict[str, str] = {}
    for name, weight in weights.items():
        match = OWN.fullmatch(name) if isinstance(name, str) else None
        if match is None or name in given:
            renamed[name] = weight
            code |= {name: given[name]} if match else {}
            continue
        path = Path(match["path"])
        short = f"{path.name}:{match['function']}"
        if short in renamed:
            raise ValueError(f"{name}: another reward is called {short}; rename one of the files")
        renamed[short] = weight
        code[short] = _read(path, match["function"])
    return {**values, "reward_weights": renamed, "reward_code": code} if code else values


def _read(path: Path, function: str) -> str:
    try:
        text = path.read_text("utf-8")
        tree = ast.parse(text, str(path))
    except OSError as e:
        raise ValueError(f"{path}: cannot be read: {e.strerror}") from e
    except (SyntaxError, UnicodeDecodeError, ValueError) as e:
        line = f":{e.lineno}" if isinstance(e, SyntaxError) else ""
        raise ValueError(f"{path}{line}: not Python: {e}") from e
    found = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    if function not in found:
        known = ", ".join(found) or "none"
        raise ValueError(f"{path}: no function {function!r} at its top; there is {known}")
    return text


def load(name: str, text: str) -> RewardFunction:
    """Return a reward from its name, ``file.py:function``, and the text of its file.

    Raises:
        InputError: If the file raises when it is imported.
    """
    match = OWN.fullmatch(name)
    if match is None:
        raise InputError(f"reward {name!r}: expected path.py:function")
    module = ModuleType(Path(match["path"]).stem)
    try:
        exec(compile(text, match["path"], "exec"), module.__dict__)
        function = getattr(module, match["function"])
    except Exception as e:  # whatever the user's file does
        raise InputError(f"{match['path']}: {type(e).__name__}: {e}") from e

    def reward(completions: Sequence[str], **columns: Any) -> list[float | None]:
        try:
            values = function(completions, **columns)
        except Exception as e:
            line = _line(e, match["path"])
            raise InputError(f"{match['path']}{line}: {type(e).__name__}: {e}") from e
        return _checked(values, len(completions), name)

    reward.__doc__ = function.__doc__
    return reward


def _line(error: Exception, path: str) -> str:
    trace, line = error.__traceback__, ""
    while trace:
        if trace.tb_frame.f_code.co_filename == path:
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line


def _checked(values: Any, size: int, name: str) -> list[float | None]:
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
        raise InputError(f"{name} must return a list of numbers, not {type(values).__name__}")
    if len(values) != size:
        raise InputError(f"{name} returned {len(values)} values for {size} completions")
    checked: list[float | None] = []
    for value in values:
        try:
            number = None if value is None else float(value)
        except (TypeError, ValueError) as e:
            raise InputError(f"{name} returned {value!r} where a number or None is due") from e
        if number is not None and not math.isfinite(number):
            raise InputError(f"{name} returned {number}; a reward must be finite")
        checked.append(number)
    return checked


def metric_name(name: str) -> str:
    """Return the name of an own reward's curve: its function's.

    Example:
        >>> metric_name("brevity.py:brief")
        'brief'
    """
    return name.rpartition(":")[2]


def write_plugin(code: Mapping[str, str], path: Path) -> list[Path]:
    """Write the file by which a training process registers own rewards; none for none.

    ms-swift imports it before ``components/grpo/plugin.py``, which hands over what is registered.
    """
    if not code:
        return []
    text = f"from omnistage.rewards import register\n\nregister({json.dumps(dict(code))})\n"
    path.write_text(text, "utf-8")
    return [path]

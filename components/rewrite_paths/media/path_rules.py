"""The path rules of a recipe."""

import re
from collections.abc import Callable, Sequence

from components.rewrite_paths.config import (
    BasenameRule,
    MarkerRule,
    PathRule,
    PrefixRule,
    RegexRule,
)


class PathRules:
    """Rewrites a record's paths by the first rule that applies.

    Args:
        rules: In the order of the recipe; without any, paths stay as they are.
    """

    def __init__(self, rules: Sequence[PathRule]) -> None:
        self._rules = [_compiled(rule) for rule in rules]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def apply(self, path: str) -> str:
        """Return the rewritten path; ``\\`` is taken for ``/`` when there are rules."""
        if not self._rules:
            return path
        path = path.replace("\\", "/")
        for rule in self._rules:
            new = rule(path)
            if new is not None:
                return new
        return path


def _compiled(rule: PathRule) -> Callable[[str], str | None]:
    match rule:
        case MarkerRule():
            return lambda path: _below(rule.to, rule.marker, path)
        case PrefixRule():
            prefix = rule.prefix.replace("\\", "/")
            return lambda path: rule.to + path[len(prefix) :] if path.startswith(prefix) else None
        case BasenameRule():
            return lambda path: _joined(rule.to, path.rpartition("/")[2])
        case RegexRule():
            pattern = re.compile(rule.pattern)
            return lambda path: pattern.sub(rule.to, path) if pattern.search(path) else None


def _below(folder: str, marker: str, path: str) -> str | None:
    at = path.find(marker)
    return _joined(folder, path[at:]) if at >= 0 else None


def _joined(folder: str, path: str) -> str:
    return f"{folder.rstrip('/')}/{path.lstrip('/')}" if folder else path

"""Says what is wrong with a recipe: the setting, what is allowed, the nearest right name."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from omnistage.recipe.schema import Loc, choices, every_setting, field_at, models_at, value_at
from omnistage.redact import secrets_of

_SECRET = re.compile(
    r"(^|[_-])(token|password|passwd|secret|api_?key|access_key(_id)?|secret_key|credentials?)$",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"://[^/\s:@]+:[^/\s@]+@")
_HTTP = re.compile(r"https?://", re.IGNORECASE)
SIGNED_VARIABLE = "OMNISTAGE_SIGNED_URLS"
"""Addresses of sources with what is secret in them, separated by white space."""
_BOUNDS = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"), ("multiple_of", "a multiple of"))


def dotted(loc: Loc) -> str:
    """Return a path for people: ``data.sources.0.url``."""
    return ".".join(map(str, loc))


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return ``did you mean 'x'?`` for the name most like the given one, or None."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"did you mean {found[0]!r}?" if found else None


def secrets(values: Any, model: type[BaseModel], loc: Loc = ()) -> list[tuple[Loc, str]]:
    """Return the keys that look like a secret, and addresses with a password, with advice.

    A name that the settings themselves declare is not one of them.
    """
    found: list[tuple[Loc, str]] = []
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        here = (*loc, key)
        if isinstance(key, str) and _SECRET.search(key) and field_at(model, here, {}) is None:
            found.append((here, "take it out and set it in the environment (such as HF_TOKEN)"))
        elif isinstance(value, str) and (tip := secret_in_address(value)):
            found.append((here, tip))
        elif isinstance(value, str) and _LOGIN.search(value):
            found.append((here, "take user name and password out of the address"))
        elif isinstance(value, dict | list):
            found += secrets(value, model, here)
    return found


def secret_in_address(url: str) -> str | None:
    """Return what is secret in an ``http(s)`` address, with advice; None where nothing is."""
    named = list(secrets_of(url)) if _HTTP.match(url) else []
    if not named:
        return None
    return (
        f"take {', '.join(named)} out of the address; a source's whole address goes into the "
        f"environment variable {SIGNED_VARIABLE}"
    )


def problems(
    error: ValidationError, values: Mapping[str, Any], model: type[BaseModel]
) -> list[tuple[Loc, str]]:
    """Return each problem's path in the recipe and its message, one for each path.

    A value that a section took over from elsewhere in the recipe, such as the seed, is told only
    where it was written.
    """
    found: dict[Loc, str] = {}
    details = [(_document_loc(d["loc"], values, model), d) for d in error.errors()]
    written = [(loc, d) for loc, d in details if d["type"] == "missing" or _is_in(loc, values)]
    for loc, detail in written or details:
        found.setdefault(loc, _say(dict(detail), loc, values, model))
    return list(found.items())


def _document_loc(loc: Loc, values: Any, model: type[BaseModel]) -> Loc:
    """Return pydantic's path without the names of union members, which the file does not have."""
    kept: Loc = ()
    below = values
    for part in loc:
        inside = part in below if isinstance(below, dict) else isinstance(below, list)
        if inside or field_at(model, (*kept, part), values):
            kept = (*kept, part)
            below = value_at(below, part)
    return kept


def _is_in(loc: Loc, values: Any) -> bool:
    for part in loc:
        if not (isinstance(values, list) or (isinstance(values, dict) and part in values)):
            return False
        values = value_at(values, part)
    return True


def _say(
    detail: dict[str, Any], loc: Loc, values: Mapping[str, Any], model: type[BaseModel]
) -> str:
    kind, given = detail["type"], detail["input"]
    field = field_at(model, loc, values)
    about = f" ({field.description.rstrip('.')})" if field and field.description else ""
    if kind == "extra_forbidden":
        return _unknown(loc, values, model)
    if kind == "missing":
        return f"missing{about}"
    if kind in {"value_error", "assertion_error"}:
        return str(detail["ctx"]["error"])
    if kind == "union_tag_not_found":
        tag = detail["ctx"]["discriminator"].strip("'")
        kinds = dict.fromkeys(c for m in models_at(model, loc, {}) for c in choices(m, tag))
        return f"its {tag!r} is missing; it is one of {', '.join(map(repr, kinds))}"
    if kind in {"union_tag_invalid", "literal_error"}:
        allowed = detail["ctx"].get("expected") or detail["ctx"].get("expected_tags")
        wrong = given if kind == "literal_error" else detail["ctx"]["tag"]
        hint = nearest(str(wrong), re.findall(r"'([^']*)'", allowed))
        return f"{_short(wrong)} is not one of {allowed}" + (f"; {hint}" if hint else "") + about
    if kind in {"model_type", "dict_type"}:
        return f"must be a section with settings of its own, not {_short(given)}{about}"
    bounds = _bounds(field) if field else ""
    if bounds and isinstance(given, int | float) and not isinstance(given, bool):
        return f"{_short(given)} is out of range: allowed is {bounds}{about}"
    message = re.sub("^(Input|String|List|Value) should ", "must ", detail["msg"]).split(", ")[0]
    return f"{message}, not {_short(given)}" + (f"; allowed is {bounds}" if bounds else "") + about


def _unknown(loc: Loc, values: Mapping[str, Any], model: type[BaseModel]) -> str:
    name, section = str(loc[-1]), dotted(loc[:-1]) or "the recipe"
    names = [n for m in models_at(model, loc[:-1], values) for n in m.model_fields]
    hint = nearest(name, names)
    if hint:
        return f"no such setting; {hint}"
    elsewhere = [s for s in every_setting(model) if s.rpartition(".")[2] == name]
    if elsewhere:
        return f"no such setting here; there is {', '.join(elsewhere[:3])}"
    known = ", ".join(dict.fromkeys(names))
    return f"no such setting; {section} has {known}" if known else "no such setting"


def _bounds(field: FieldInfo) -> str:
    limits = [
        f"{sign} {value:g}"
        for part in field.metadata
        for name, sign in _BOUNDS
        if isinstance(value := getattr(part, name, None), int | float)
    ]
    return " and ".join(limits)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

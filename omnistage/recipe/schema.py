"""Looks up, in the settings of a pipeline, what may stand at a path of its recipe."""

import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Loc = tuple[str | int, ...]
"""Path of a value: keys and list indexes."""


def models_at(model: type[BaseModel], loc: Loc, values: Any) -> list[type[BaseModel]]:
    """Return the settings classes that may stand at a path.

    Where a class is one of several, those whose ``Literal`` fields contradict the recipe's values
    are left out.
    """
    annotations: list[Any] = [model]
    for part in loc:
        annotations = [after for a in annotations for after in _step(a, part)]
        values = value_at(values, part)
    found = [m for a in annotations for m in _models(a)]
    return [m for m in found if _fits(m, values)] or found


def field_at(model: type[BaseModel], loc: Loc, values: Any) -> FieldInfo | None:
    """Return the declared field at a path, or None when no settings class declares it."""
    if not loc:
        return None
    for parent in models_at(model, loc[:-1], values):
        field = parent.model_fields.get(str(loc[-1]))
        if field:
            return field
    return None


def every_setting(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of every setting, without going into lists and mappings."""
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from every_setting(field.annotation, f"{prefix}{name}.")


def choices(model: type[BaseModel], name: str) -> tuple[Any, ...]:
    """Return the values that a ``Literal`` field of a settings class allows."""
    field = model.model_fields.get(name)
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()


def _step(annotation: Any, part: str | int) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return [field.annotation] if field else []
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return [after for a in inner for after in _step(a, part)]
    if hasattr(annotation, "__metadata__"):  # Annotated
        return _step(inner[0], part)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return [inner[1]]
    return [a for a in inner if a is not Ellipsis] if isinstance(part, int) else []


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    inner = get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return _models(inner[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [m for a in inner for m in _models(a)]
    return []


def _fits(model: type[BaseModel], values: Any) -> bool:
    if not isinstance(values, dict):
        return True
    return all(
        values[name] in get_args(field.annotation)
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is Literal and name in values
    )


def value_at(values: Any, part: str | int) -> Any:
    """Return the value under a key or index, or None where there is none."""
    if isinstance(values, dict):
        return values.get(part)
    if isinstance(values, list) and isinstance(part, int) and part < len(values):
        return values[part]
    return None

"""Base of every stage's settings, and which of them count for the stage key."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from omnistage.errors import InputError


class Ask(NamedTuple):
    """Something that settings ask for and a shared cluster may refuse."""

    what: str
    """A field of :class:`omnistage.policy.Policy`."""
    name: str
    where: str
    """The setting."""


class Settings(BaseModel):
    """Frozen settings that refuse unknown names."""

    # Defaults are validated too, so that settings read back from their JSON are the same settings.
    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), validate_default=True
    )

    def asks(self) -> list[Ask]:
        """Return what these settings ask for that a shared cluster may refuse."""
        return []


def operational() -> dict[str, Any]:
    """Mark a field, as ``Field(json_schema_extra=operational())``, that cannot change the result.

    Such a field (a log interval, a number of workers) is left out of the stage key.
    """
    return {"operational": True}


def added() -> dict[str, Any]:
    """Mark a field, as :func:`operational` does, that came after results were stored.

    While it has its default it is left out of the stage key, so that these results still count.
    """
    return {"added": True}


def key_config(settings: BaseModel) -> dict[str, Any]:
    """Return the settings that decide the result, as JSON values, for the stage key.

    Fields marked :func:`operational`, or :func:`added` and not set, are left out at every depth.
    A ``key_version`` of a class counts too: it is raised where code that the settings choose would
    make something else of them.
    """
    return _kept(settings)


def _kept(value: Any) -> Any:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        kept = {
            name: _kept(getattr(value, name))
            for name, field in fields.items()
            if _counts(field, getattr(value, name))
        }
        version = getattr(value, "key_version", None)
        return kept if version is None else {**kept, "key_version": version}
    if isinstance(value, dict):
        return {str(k): _kept(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_kept(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value


def _counts(field: FieldInfo, value: Any) -> bool:
    marks = field.json_schema_extra
    if not isinstance(marks, dict):
        return True
    return not (marks.get("operational") or (marks.get("added") and value == field.get_default()))


C = TypeVar("C", bound=Settings)


def parse_config(config: type[C], values: Mapping[str, Any], where: str) -> C:
    """Validate settings.

    Raises:
        InputError: Naming the first wrong field, what is wrong and what was given.
    """
    try:
        return config.model_validate(values)
    except ValidationError as e:
        first = e.errors()[0]
        name = ".".join(map(str, first["loc"]))
        more = f" (and {e.error_count() - 1} more)" if e.error_count() > 1 else ""
        given = "" if first["type"] == "missing" else f", not {first['input']!r}"
        raise InputError(f"{where}.{name}: {first['msg']}{given}{more}") from e

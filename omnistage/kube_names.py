"""Names and labels that Kubernetes accepts, checked where a recipe is read.

Limits: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ and …/labels/.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

MAX_NAME = 253
MAX_LABEL = 63
MAX_RUN = 52

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")


def _check(text: str, what: str, limit: int, pattern: re.Pattern[str], letters: str) -> str:
    if len(text) > limit:
        raise ValueError(f"{what} has at most {limit} characters, {text[:20]!r}… has {len(text)}")
    if text and not pattern.fullmatch(text):
        raise ValueError(
            f"{what} has {letters}, digits, '-' and '.', and begins and ends with a letter or "
            f"digit; {text!r} does not"
        )
    return text


def object_name(text: str) -> str:
    """Return a name of an object unchanged; empty stands for none.

    Raises:
        ValueError: If Kubernetes would refuse it; the message says the limit.
    """
    return _check(text, "a name", MAX_NAME, _NAME, "small letters")


def queue_name(text: str) -> str:
    """Return a name that is also the value of a label, such as a queue's; empty stands for none.

    Raises:
        ValueError: If Kubernetes would refuse it; the message says the limit.
    """
    return _check(text, "a queue's name, which becomes a label,", MAX_LABEL, _NAME, "small letters")


def labels(found: dict[str, str]) -> dict[str, str]:
    """Return labels unchanged: ``prefix/name`` or ``name`` to a value, which may be empty.

    Raises:
        ValueError: If Kubernetes would refuse one; the message says which and the limit.
    """
    for key, value in found.items():
        prefix, _, name = key.rpartition("/")
        _check(prefix, f"the prefix of label {key[:40]!r}", MAX_NAME, _NAME, "small letters")
        _check(name, f"the key of label {key[:40]!r}", MAX_LABEL, _LABEL, "letters, '_'")
        _check(value, f"the value of label {key[:40]!r}", MAX_LABEL, _LABEL, "letters, '_'")
        if not name:
            raise ValueError(f"label {key!r} has no name")
    return found


def run_name(text: str) -> str:
    """Return a recipe's name unchanged: names of packages and pods are made of it.

    Raises:
        ValueError: If it is empty, longer than 52 characters or has other characters than small
            letters, digits and ``-``.
    """
    if len(text) > MAX_RUN:
        raise ValueError(
            f"at most {MAX_RUN} characters are allowed, {text[:20]!r}… has {len(text)}"
        )
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", text):
        raise ValueError(
            f"{text!r} has other characters than small letters, digits and '-', or begins or ends "
            "with '-'"
        )
    return text


def _text(limit: int) -> WithJsonSchema:
    pattern = f"^({_NAME.pattern})?$"
    return WithJsonSchema({"type": "string", "pattern": pattern, "maxLength": limit})


ObjectName = Annotated[str, AfterValidator(object_name), _text(MAX_NAME)]
QueueName = Annotated[str, AfterValidator(queue_name), _text(MAX_LABEL)]
RunName = Annotated[str, AfterValidator(run_name)]
Labels = Annotated[dict[str, str], AfterValidator(labels)]

"""Columns beside question, answer and media: honoured, refused, or noted as dropped."""

from typing import Any

from components.rewrite_paths.draft import Draft, Form, Row, RowError
from components.rewrite_paths.formats.numbers import json_text

_EMPTY = (None, "", [], {})
_SYSTEM = ("system", "system_prompt")
_REFUSED = {
    "tools": "the conversation may call tools, which a record has no place for",
    "functions": "the conversation may call functions, which a record has no place for",
    "history": "earlier turns are read beside a query, question or prompt, and not in this format",
    "rejected_response": "the row is a preference; only a text answer can be made a pair to judge",
    "rejected_messages": "the row is a preference in a form that is not read",
    "rejected_images": "the row is a preference whose sides show different media",
    "loss_scale": "weights on parts of an answer have no place in a record",
}
"""Columns that change what is learned and that no reader has taken, with the reason."""


def settle_columns(row: Row, draft: Draft) -> None:
    """Honour what stands beside the conversation, refuse what cannot be, and note the rest.

    Args:
        row: The row; what its reader has read is settled.
        draft: Gets a system turn, and the names of the columns that are dropped.

    Raises:
        RowError: For a column that changes what is learned and cannot be honoured.
    """
    for key in _SYSTEM:
        if key in row and key not in row.used:
            _add_system(draft, row[key], key)
    _check_marks(row)
    for key, why in _REFUSED.items():
        if key in row and key not in row.used and row[key] not in (*_EMPTY, "[]"):
            raise RowError(key, f"{key}: {why}")
    draft.dropped += [key for key in row if key not in row.used]


def _check_marks(row: Row) -> None:
    """Refuse a row that is marked as a whole as one not to learn from."""
    # KTO marks an answer as good or bad; a number is a class of the data set's own.
    marks: dict[str, tuple[str, tuple[str, ...]]] = {
        "label": ("label_false", ("false",)),
        "kto_tag": ("label_false", ("false",)),
        "loss": ("loss_false", ("false", "0", "0.0")),
        "weight": ("weight_zero", ("0", "0.0")),
    }
    for key, (reason, values) in marks.items():
        value = row.peek(key)
        if json_text(value).strip('"').lower() in values:
            raise RowError(
                reason, f"{key}: {json_text(value)} marks the row as one not to learn from"
            )
        if value is True:
            row.used.add(key)


def _add_system(draft: Draft, value: Any, key: str) -> None:
    if value in _EMPTY:
        return
    if not isinstance(value, str):
        raise RowError("bad_field", f"{key}: a text is needed")
    first = draft.messages[0] if draft.messages else {"role": "user"}
    if first["role"] != "system":
        draft.messages.insert(0, {"role": "system", "content": value})
    elif first["content"] != value:
        raise RowError("bad_field", f"{key}: the conversation has another system turn already")


def check_learned(draft: Draft, split: Form) -> None:
    """Check that an answer is one to learn from, and drop ``loss`` where nothing is learned.

    Raises:
        RowError: ``loss_false``, if no answer of the row is to be learned.
    """
    answers = [m for m in draft.messages if m["role"] == "assistant"]
    if not any("loss" in answer for answer in answers):
        return
    if split == "sft":
        if all("loss" in answer for answer in answers):
            raise RowError("loss_false", "loss: false stands on every answer of the row")
        return
    last = draft.messages[-1]
    if "loss" in last and draft.solution is None:
        raise RowError("loss_false", "loss: false stands on the answer; the right one is unknown")
    for answer in answers:
        answer.pop("loss", None)

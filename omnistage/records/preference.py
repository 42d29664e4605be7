"""What a judge record prefers: its gold verdict over the opposite one."""

from typing import Any

from omnistage.records.verdict import VerdictError, read_better, swap_json


def preference(record: dict[str, Any]) -> tuple[str, str] | None:
    """Return the right and the wrong answer of a record.

    The wrong one is the gold verdict with the candidates exchanged: scores, winner and the names
    in its reasoning. So the two differ in what is judged and not in form or length.

    Args:
        record: A canonical record.

    Returns:
        The two, or None where there is no opposite: a tie, or a record that judges nothing.

    Example:
        >>> preference({"task": "judge", "solution": '{"better": "A"}'})
        ('{"better": "A"}', '{"better": "B"}')
        >>> preference({"task": "judge", "solution": '{"better": "equal"}'})
    """
    if record.get("task") != "judge":
        return None
    try:
        if read_better(record["solution"]) == "equal":
            return None
        return record["solution"], swap_json(record["solution"])
    except VerdictError:
        return None

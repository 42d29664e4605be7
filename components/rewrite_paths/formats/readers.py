"""The formats that rows come in: how each is recognised and read.

A reader takes a row as parsed from JSON and returns a :class:`Draft`; it raises ``RowError`` for a
row that has the format's keys but not its types.
"""

import ast
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from components.rewrite_paths.draft import Draft, RowError
from components.rewrite_paths.formats.turns import join_parts, read_turns, take_media, text_of
from components.rewrite_paths.formats.verdict_text import is_verdict, split_instructions
from omnistage.records.record import GOLD, KEYS, TAGS, TASKS

_PROBLEM_TASKS = {
    "multiple choice": "choice",
    "multiple_choice": "choice",
    "numerical": "numeric",
    "ocr": "ocr",
    "free-form": "free_form",
    "free_form": "free_form",
    "regression": "regression",
    "emer_ov": "emotion",
    "emer_ov_mc": "multi_choice",
    "judge": "yes_no",
}


def read_omnicritic(row: Mapping[str, Any]) -> Draft:
    """Read OmniCritic's new shape, which is ms-swift's with a verdict as the answer.

    Where the instructions of the judge stand before the path in the user turn, they become the
    system turn, so that all rows have the same form.
    """
    return _split_system(_chat(row))


def read_omnicritic_old(row: Mapping[str, Any]) -> Draft:
    """Read OmniCritic's old shape: ``input``, ``output`` and the media fields."""
    draft = Draft([{"role": "user", "content": text_of(row, "input")}])
    take_media(row, draft)
    draft.solution = _answer(row["output"], "output")
    draft.gold = _gold(row)
    return _split_system(draft)


def read_omnirl(row: Mapping[str, Any]) -> Draft:
    """Read OmniRL's ``problem``, ``solution`` and, for some rows, ``image``."""
    draft = Draft([{"role": "user", "content": text_of(row, "problem")}])
    take_media(row, draft)
    draft.solution = _answer(row["solution"], "solution")
    draft.gold = _gold(row)
    return draft


def read_lmm_r1(row: Mapping[str, Any]) -> Draft:
    """Read LMM-R1's stringified list of OpenAI messages in ``message`` and its ``answer``."""
    message = row["message"]
    if isinstance(message, str):
        message = _literal(message)
    draft = _turns(message, "message")
    take_media(row, draft)
    draft.solution = _answer(row["answer"], "answer")
    draft.task = "math"
    return draft


def read_conversations(row: Mapping[str, Any]) -> Draft:
    """Read LLaVA's and VLM-R1's ``conversations`` with one or several images or clips.

    A ``system`` prompt may stand beside them, as LLaMA-Factory has it.
    """
    draft = _turns(row["conversations"], "conversations")
    if row.get("system"):
        draft.messages.insert(0, {"role": "system", "content": text_of(row, "system")})
    take_media(row, draft)
    if "solution" in row:
        draft.solution = _answer(row["solution"], "solution")
    draft.gold = _gold(row)
    return draft


def read_r1_omni(row: Mapping[str, Any]) -> Draft:
    """Read R1-Omni's ``conversations`` on a clip, where ``<audio>`` is the sound of the clip."""
    draft = read_conversations(row)
    draft.task = "emotion"
    draft.clip_sound = True
    return draft


def read_humanomni_v2(row: Mapping[str, Any]) -> Draft:
    """Read HumanOmniV2's ``problem``, ``solution``, ``path``, ``data_type``, ``problem_type``.

    ``path`` is one path, of the kind that ``data_type`` names, an object by kind, or empty. Options
    are written below the problem, a line each, unless it already has them all.
    """
    problem = text_of(row, "problem")
    options = row.get("options") or []
    if not isinstance(options, list) or not all(isinstance(o, str) for o in options):
        raise RowError("bad_field", "options: a list of texts is needed")
    # An option such as "no" may be in the problem by chance, but hardly all of them.
    listed = all(option in problem for option in options)
    lines = [problem] if listed else [problem, *options]
    draft = Draft([{"role": "user", "content": "\n".join(lines)}])
    path = row["path"] or {}
    if isinstance(path, str):
        kind = str(row.get("data_type", "")).lower()
        named = [k for k in ("image", "audio", "video") if k in kind]
        if not named:
            raise RowError("bad_field", f"data_type: image, audio or video, not {kind[:40]!r}")
        # "video_audio" is one file: a clip whose sound matters.
        path = {named[-1] if "video" not in named else "video": path}
    if not isinstance(path, dict):
        raise RowError("bad_field", "path: a path or an object of paths is needed")
    take_media(path, draft)
    draft.solution = _answer(row["solution"], "solution")
    kind = str(row.get("problem_type", "")).strip()
    draft.task = _PROBLEM_TASKS.get(kind.lower())
    draft.gold = _gold(row)
    return draft


def read_ms_swift(row: Mapping[str, Any]) -> Draft:
    """Read ms-swift's ``messages`` with media lists, or one of its older forms.

    These are pairs of ``query`` and ``response`` with a ``history`` of such pairs, Alpaca's
    ``instruction``, ``input`` and ``output``, and ``conversation``, a list of pairs.
    """
    if "messages" in row:
        return _chat(row)
    draft = Draft([])
    if row.get("system"):
        draft.messages.append({"role": "system", "content": text_of(row, "system")})
    pairs, answer = _pairs(row)
    for asked, answered in pairs:
        if not isinstance(asked, str) or not isinstance(answered, str):
            raise RowError("bad_field", "earlier turns: pairs of texts are needed")
        draft.messages.append({"role": "user", "content": asked})
        draft.messages.append({"role": "assistant", "content": answered})
    if "instruction" in row:
        asked = [text_of(row, key) for key in ("instruction", "input") if row.get(key)]
        draft.messages.append({"role": "user", "content": "\n".join(asked)})
    elif "query" in row or "conversation" not in row:
        draft.messages.append({"role": "user", "content": text_of(row, "query")})
    take_media(row, draft)
    draft.solution = _answer(row.get("solution", answer), "response")
    draft.gold = _gold(row)
    return draft


def _pairs(row: Mapping[str, Any]) -> tuple[list[tuple[Any, Any]], Any]:
    """Return the earlier pairs of one of ms-swift's older forms, and the answer to the last."""
    pairs: list[tuple[Any, Any]] = []
    for key in ("history", "conversation"):
        listed = row.get(key) or []
        for pair in listed if isinstance(listed, list) else [listed]:
            if isinstance(pair, dict):
                pair = [pair.get("human"), pair.get("assistant")]
            if not isinstance(pair, list) or len(pair) != 2:
                raise RowError("bad_field", f"{key}: a list of pairs is needed")
            pairs.append((pair[0], pair[1]))
    return pairs, row.get("response", row.get("output"))


def read_openai(row: Mapping[str, Any]) -> Draft:
    """Read OpenAI's chat messages, whose content may be a list of text and media parts."""
    return _chat(row)


def read_omnistage(row: Mapping[str, Any]) -> Draft:
    """Read a canonical record."""
    draft = _chat(row)
    if row.get("task") not in TASKS:
        raise RowError("bad_field", "task: not one of the known tasks")
    draft.task = row["task"]
    return draft


def _chat(row: Mapping[str, Any]) -> Draft:
    draft = _turns(row["messages"], "messages")
    take_media(row, draft)
    draft.gold = _gold(row)
    if row.get("solution") is not None:
        draft.solution = _answer(row["solution"], "solution")
    return draft


def _turns(value: Any, where: str) -> Draft:
    draft = Draft([])
    for role, content in read_turns(value, where):
        draft.messages.append({"role": role, "content": join_parts(content, draft, where)})
    return draft


def _literal(text: str) -> Any:
    """Parse a stringified list: JSON, or the Python literal that ``str(list)`` leaves."""
    with contextlib.suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as e:
        # Python's own words hold addresses in memory, which differ from run to run.
        raise RowError("bad_field", "message: neither JSON nor a Python literal") from e


def _split_system(draft: Draft) -> Draft:
    """Make a system turn of the instructions that stand in the first user turn."""
    if draft.messages[0]["role"] == "user":
        instructions, question = split_instructions(draft.messages[0]["content"])
        if instructions:
            draft.messages[0]["content"] = question
            draft.messages.insert(0, {"role": "system", "content": instructions})
    return draft


def _answer(value: Any, field: str) -> str | dict[str, Any] | None:
    if value is None or isinstance(value, str | dict):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, list):
        return orjson.dumps(value).decode()
    raise RowError("bad_field", f"{field}: a text or an object is needed")


def _gold(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in GOLD if row.get(key) is not None}


def recognise(row: Mapping[str, Any]) -> str | None:
    """Return the name of a row's format, or None if it fits none."""
    keys = row.keys()
    if "messages" in keys:
        if keys >= {"id", "source", "task"} and keys <= set(KEYS):
            return "omnistage"
        messages = row["messages"]
        listed = isinstance(messages, list) and any(
            isinstance(m, dict) and isinstance(m.get("content"), list) for m in messages
        )
        if listed:
            return "openai"
        last = messages[-1] if isinstance(messages, list) and messages else None
        shown = last.get("content") if isinstance(last, dict) else None
        judged = is_verdict(row.get("solution")) or is_verdict(shown)
        return "omnicritic" if judged else "ms_swift"
    if keys >= {"instruction", "output"} or keys & {"query", "conversation"}:
        return "ms_swift"
    if keys >= {"input", "output"}:
        return "omnicritic_old"
    if keys >= {"message", "answer"}:
        return "lmm_r1"
    if "conversations" in keys:
        return "r1_omni" if "video" in keys and _asks_for_sound(row) else "llava"
    if keys >= {"problem", "solution"}:
        return "humanomni_v2" if "path" in keys else "omnirl"
    return None


def _asks_for_sound(row: Mapping[str, Any]) -> bool:
    """Whether a turn has the tag by which R1-Omni's rows mean the sound of their clip."""
    turns = row["conversations"] if isinstance(row["conversations"], list) else []
    return any(TAGS["audios"] in str(turn.get("value")) for turn in turns if isinstance(turn, dict))


READERS: dict[str, tuple[frozenset[str], Callable[[Mapping[str, Any]], Draft]]] = {
    "omnicritic": (frozenset({"messages"}), read_omnicritic),
    "omnicritic_old": (frozenset({"input", "output"}), read_omnicritic_old),
    "omnirl": (frozenset({"problem", "solution"}), read_omnirl),
    "lmm_r1": (frozenset({"message", "answer"}), read_lmm_r1),
    "r1_omni": (frozenset({"conversations"}), read_r1_omni),
    "humanomni_v2": (frozenset({"problem", "solution", "path"}), read_humanomni_v2),
    "llava": (frozenset({"conversations"}), read_conversations),
    "ms_swift": (frozenset(), read_ms_swift),
    "openai": (frozenset({"messages"}), read_openai),
    "omnistage": (frozenset({"messages", "task"}), read_omnistage),
}


def read_row(row: Any, format: str) -> Draft:
    """Read a parsed row.

    Args:
        row: Any JSON value.
        format: Name of its format, or ``auto``.

    Raises:
        RowError: If it is not of that format, or of none that is known.
    """
    if not isinstance(row, dict):
        raise RowError("not_an_object", "a JSON object is needed")
    name = recognise(row) if format == "auto" else format
    if name is None:
        raise RowError("unknown_format", f"fits no format; keys: {', '.join(row)[:120]}")
    needed, reader = READERS[name]
    absent = sorted(needed - row.keys())
    if absent:
        raise RowError("unknown_format", f"not {name}: no {absent[0]!r}")
    draft = reader(row)
    if not any(message["role"] == "user" for message in draft.messages):
        raise RowError("no_prompt", "there is no user turn")
    return draft

"""The formats that rows come in, and how each is read.

A reader takes a row as parsed from JSON and returns a :class:`Draft`; it raises ``RowError`` for a
row that has the format's keys but not its types. What it does not read is settled or counted by
``read_row.py``.
"""

import ast
import contextlib
import re
from collections.abc import Callable
from typing import Any

import orjson

from components.rewrite_paths.draft import Draft, Row, RowError
from components.rewrite_paths.formats.numbers import json_text
from components.rewrite_paths.formats.options import options_of
from components.rewrite_paths.formats.pairs import (
    read_best_of_n,
    read_mm_rewardbench,
    read_pair,
    read_preference,
    read_vl_rewardbench,
)
from components.rewrite_paths.formats.recognise import ANSWERS, PAIRS, QUESTIONS
from components.rewrite_paths.formats.turns import (
    check_answer,
    earlier_turns,
    join_parts,
    read_turns,
    take_media,
    text_of,
)
from components.rewrite_paths.formats.verdict_text import split_instructions
from omnistage.records.record import GOLD, TASKS

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
_LETTER = re.compile(r"[(\[]?[A-Za-z][)\].]?")


def read_omnicritic(row: Row) -> Draft:
    """Read OmniCritic's new shape, which is ms-swift's with a verdict as the answer.

    Where the instructions of the judge stand before the path in the user turn, they become the
    system turn, so that all rows have the same form.
    """
    return _split_system(_chat(row))


def read_omnicritic_old(row: Row) -> Draft:
    """Read OmniCritic's old shape: ``input``, ``output`` and the media fields."""
    draft = Draft([{"role": "user", "content": text_of(row, "input")}])
    take_media(row, draft)
    draft.solution = _answer(row["output"], "output")
    draft.gold = _gold(row)
    return _split_system(draft)


def read_omnirl(row: Row) -> Draft:
    """Read OmniRL's ``problem``, ``solution`` and, for some rows, ``image``.

    Where an ``answer`` stands beside them, as in sets of mathematics, it is the gold one, and the
    solution is what is learned.
    """
    draft = Draft([{"role": "user", "content": text_of(row, "problem")}])
    take_media(row, draft)
    # MATH and its kin have a solution that is learned, and the bare answer.
    solution = row.peek("solution") or ""
    worked_out = row.peek("answer") is not None and "<answer>" not in str(solution)
    if worked_out and isinstance(solution, str) and solution and not row.peek("response"):
        draft.messages.append({"role": "assistant", "content": row["solution"]})
    answer = "answer" if worked_out else "solution"
    draft.solution = _answer(row[answer], answer)
    _add_response(row, draft)
    draft.gold = _gold(row)
    return draft


def read_lmm_r1(row: Row) -> Draft:
    """Read LMM-R1's stringified list of OpenAI messages in ``message`` and its ``answer``."""
    message = row["message"]
    if isinstance(message, str):
        message = _literal(message)
    draft = _turns(message, "message")
    take_media(row, draft)
    draft.solution = _answer(row["answer"], "answer")
    _add_response(row, draft)
    draft.gold = _gold(row)
    draft.task = "math"
    return draft


def read_conversations(row: Row) -> Draft:
    """Read LLaVA's and VLM-R1's ``conversations`` with one or several images or clips."""
    draft = _turns(row["conversations"], "conversations")
    take_media(row, draft)
    if "solution" in row:
        draft.solution = _answer(row["solution"], "solution")
    _add_response(row, draft)
    draft.gold = _gold(row)
    return draft


def read_r1_omni(row: Row) -> Draft:
    """Read R1-Omni's ``conversations`` on a clip, where ``<audio>`` is the sound of the clip."""
    draft = read_conversations(row)
    draft.task = "emotion"
    draft.clip_sound = True
    return draft


def read_humanomni_v2(row: Row) -> Draft:
    """Read HumanOmniV2's ``problem``, ``solution``, ``path``, ``data_type``, ``problem_type``.

    ``path`` is one path, of the kind that ``data_type`` names, an object by kind, or empty.
    """
    draft = Draft([{"role": "user", "content": text_of(row, "problem")}])
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
    shown = Row(path)
    take_media(shown, draft)
    draft.dropped += [f"path.{key}" for key in shown if key not in shown.used]
    draft.solution = _answer(row["solution"], "solution")
    _add_response(row, draft)
    kind = str(row.get("problem_type", "")).strip()
    draft.task = _PROBLEM_TASKS.get(kind.lower())
    draft.gold = _gold(row)
    return draft


def read_ms_swift(row: Row) -> Draft:
    """Read ms-swift's ``messages`` with media lists, or one of its older forms.

    These are pairs of ``query`` and ``response`` with a ``history`` of such pairs, Alpaca's
    ``instruction``, ``input`` and ``output``, and ``conversation``, a list of pairs.
    """
    if "messages" in row:
        return _chat(row)
    draft = Draft(earlier_turns(row))
    given = next((k for k in ("response", "output", "answer") if row.peek(k) is not None), None)
    if "instruction" in row:
        asked = [text_of(row, key) for key in ("instruction", "input") if row.get(key)]
        draft.messages.append({"role": "user", "content": "\n".join(asked)})
    elif "query" in row or "conversation" not in row:
        draft.messages.append({"role": "user", "content": text_of(row, "query")})
    take_media(row, draft)
    if row.peek("solution") is not None:
        draft.solution = _answer(row["solution"], "solution")
        if given and isinstance(row.peek(given), str):
            draft.messages.append({"role": "assistant", "content": row[given]})
    elif given:
        draft.solution = _answer(row[given], given)
    draft.gold = _gold(row)
    return draft


def read_question(row: Row) -> Draft:
    """Read a ``question`` with its ``answer``, as benchmarks and R1-V's geometry sets have it.

    Options may be called ``options``, ``choices``, ``candidates`` or ``Choice``.
    """
    asked = next((key for key in QUESTIONS if key in row), None)
    if asked is None:
        raise RowError("unknown_format", "not question: no 'question'")
    draft = Draft([*earlier_turns(row), {"role": "user", "content": text_of(row, asked)}])
    take_media(row, draft)
    answer = next((key for key in ANSWERS if row.peek(key) is not None), None)
    if answer is not None:
        draft.solution = _answer(row[answer], answer)
    _add_response(row, draft)
    draft.gold = _gold(row)
    return draft


def read_prompt(row: Row) -> Draft:
    """Read TRL's ``prompt`` and ``completion``, texts or lists of turns, and a ``solution``.

    A ``response`` is taken for a missing completion.
    """
    draft = Draft(earlier_turns(row))
    for key, role in (("prompt", "user"), ("completion", "assistant")):
        value = row.get(key)
        if isinstance(value, str):
            draft.messages.append({"role": role, "content": value})
        elif value is not None:
            _add_turns(draft, value, key)
    take_media(row, draft)
    answer = next((key for key in ANSWERS if row.peek(key) is not None), None)
    if answer is not None:
        draft.solution = _answer(row[answer], answer)
    _add_response(row, draft)
    draft.gold = _gold(row)
    return draft


def read_openai(row: Row) -> Draft:
    """Read OpenAI's chat messages, whose content may be a list of text and media parts."""
    return _chat(row)


def read_omnistage(row: Row) -> Draft:
    """Read a canonical record."""
    draft = _chat(row)
    if row.get("task") not in TASKS:
        raise RowError("bad_field", "task: not one of the known tasks")
    draft.task = row["task"]
    return draft


def _chat(row: Row) -> Draft:
    draft = _turns(row["messages"], "messages")
    take_media(row, draft)
    draft.gold = _gold(row)
    if row.get("solution") is not None:
        draft.solution = _answer(row["solution"], "solution")
    _add_response(row, draft)
    return draft


def _turns(value: Any, where: str) -> Draft:
    draft = Draft([])
    _add_turns(draft, value, where)
    return draft


def _add_turns(draft: Draft, value: Any, where: str) -> None:
    for turn, content in read_turns(value, where, draft):
        if content is None and turn["role"] == "assistant":
            raise RowError("no_answer", f"{where}: an answer is null")
        if turn["role"] == "assistant" and isinstance(content, list):
            check_answer(content, where)
        draft.messages.append({**turn, "content": join_parts(content, draft, where)})


def _add_response(row: Row, draft: Draft) -> None:
    """Keep a whole response beside the bare answer, as what is learned, where no turn has one."""
    answered = bool(draft.messages) and draft.messages[-1]["role"] == "assistant"
    if isinstance(row.peek("response"), str) and not answered:
        draft.messages.append({"role": "assistant", "content": row["response"]})


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
    if isinstance(value, list) and len(value) < 2 and not any(isinstance(v, list) for v in value):
        return _answer(value[0], field) if value else None
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        if len(value) > 1 and not all(_LETTER.fullmatch(item) for item in value):
            raise RowError(
                "bad_field", f"{field}: {len(value)} texts, and only one can be the answer"
            )
        return ", ".join(value)
    if isinstance(value, bool | int | float | list):
        return json_text(value)
    raise RowError("bad_field", f"{field}: a text or an object is needed")


def _gold(row: Row) -> dict[str, Any]:
    gold = {key: row[key] for key in GOLD if row.peek(key) is not None}
    options = options_of(row)
    if options is not None:
        gold["options"] = options
    return gold


READERS: dict[str, tuple[frozenset[str], Callable[[Row], Draft]]] = {
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
    "question": (frozenset(), read_question),
    "trl": (frozenset({"prompt"}), read_prompt),
    "pair": (frozenset(PAIRS["pair"]), read_pair),
    "vl_rewardbench": (frozenset(PAIRS["vl_rewardbench"]), read_vl_rewardbench),
    "mm_rewardbench": (frozenset(PAIRS["mm_rewardbench"]), read_mm_rewardbench),
    "best_of_n": (frozenset(PAIRS["best_of_n"]), read_best_of_n),
    "preference": (frozenset(), read_preference),
}

"""Preferences of all kinds as pairs to judge: a question, two answers, and which is better."""

import hashlib
from collections.abc import Mapping
from typing import Any

from components.rewrite_paths.draft import Draft, Row, RowError
from components.rewrite_paths.formats.options import options_of, options_of_pair
from components.rewrite_paths.formats.quoted import PLACE
from components.rewrite_paths.formats.turns import (
    check_answer,
    earlier_turns,
    join_parts,
    read_turns,
    take_media,
    text_of,
)
from omnistage.records.pairs import candidates, judge_prompt
from omnistage.records.plain_text import escape_tags
from omnistage.records.record import GOLD, TAGS

_WINNERS = {
    **dict.fromkeys(("a", "[[a]]", "response_a", "output1", "response1", "first"), "A"),
    **dict.fromkeys(("b", "[[b]]", "response_b", "output2", "response2", "second"), "B"),
    **dict.fromkeys(("equal", "tie", "[[c]]", "same", "both"), "equal"),
}
_SCORES = tuple(key for key in GOLD if key not in ("better", "options"))
_TURN = "\n\nAssistant:"
_ASKED = "\n\nHuman:"


def read_pair(row: Row) -> Draft:
    """Read ``question``, ``response_a``, ``response_b`` and ``better``, in the row's own order."""
    draft = _pair(row, _text(row, "question"), _text(row, "response_a"), _text(row, "response_b"))
    draft.gold = {k: row[k] for k in _SCORES if row.peek(k) is not None}
    draft.gold["better"] = _winner(row, "better", "response_a", "response_b")
    if row.peek("solution") is not None:
        draft.solution = row["solution"]
    return draft


def read_vl_rewardbench(row: Row) -> Draft:
    """Read VL-RewardBench's ``query``, two in ``response``, and their ``human_ranking``.

    The ranking gives each response its rank; 0 is the better one.
    """
    answers, ranks = row["response"], row["human_ranking"]
    if not isinstance(answers, list) or len(answers) != 2 or not isinstance(ranks, list):
        raise RowError("bad_field", "response and human_ranking: lists of two are needed")
    if ranks not in ([0, 1], [1, 0], [0, 0]):
        raise RowError("bad_field", f"human_ranking: ranks 0 and 1 are needed, not {ranks!r:.40}")
    a, b = (_as_text(answer, "response") for answer in answers)
    if a == b and ranks != [0, 0]:
        raise RowError("equal_answers", "the better and the worse answer are the same")
    draft = _pair(row, _text(row, "query"), a, b)
    draft.gold = {"better": "equal" if ranks == [0, 0] else "AB"[ranks.index(0)]}
    return draft


def read_mm_rewardbench(row: Row) -> Draft:
    """Read Multimodal RewardBench's ``Text``, ``Output1``, ``Output2`` and ``Better``."""
    draft = _pair(row, _text(row, "Text"), _text(row, "Output1"), _text(row, "Output2"))
    draft.gold = {"better": _winner(row, "Better", "Output1", "Output2")}
    return draft


def read_best_of_n(row: Row) -> Draft:
    """Read a ``question``, its ``responses`` and their ``scores``: one of the best beside a worst.

    Scores are numbers, or whether a response is right. Which of equally good responses is taken,
    and which stands first, depends on the seed and the texts; the others are counted as dropped.
    """
    responses, scores = row["responses"], row["scores"]
    if not isinstance(responses, list) or not isinstance(scores, list):
        raise RowError("bad_field", "responses and scores: lists are needed")
    if len(responses) != len(scores) or len(scores) < 2:
        raise RowError("bad_field", "responses and scores: two or more of each are needed")
    if not all(isinstance(score, bool | int | float) for score in scores):
        raise RowError("bad_field", "scores: numbers, true or false are needed")
    question, values = _text(row, "question"), [float(score) for score in scores]
    texts = [_as_text(response, "responses") for response in responses]
    if min(values) == max(values):
        raise RowError("equal_answers", "all responses have the same score")
    good, bad = (
        min(
            (text for text, value in zip(texts, values, strict=True) if value == wanted),
            key=lambda text: _digest(row.seed, question, text),
        )
        for wanted in (max(values), min(values))
    )
    if good == bad:
        raise RowError("equal_answers", "the better and the worse answer are the same")
    draft = _seeded_pair(row, question, good, bad)
    if len(texts) > 2:
        draft.dropped.append("responses[]")
    if len(set(values)) > 2:
        draft.dropped.append("scores[]")
    return draft


def read_preference(row: Row) -> Draft:
    """Read a chosen and a rejected answer; which of them is A depends on the seed and their text.

    Read are TRL's and RLAIF-V's ``chosen`` and ``rejected`` as texts beside a prompt, or as lists
    of turns; HH-RLHF's two dialogues; and ms-swift's ``messages`` with ``rejected_response``.
    """
    if not is_preference(row):
        raise RowError("unknown_format", "not preference: no chosen and rejected answer")
    media = Draft([])
    if "rejected_response" in row:
        question, chosen = _asked_and_answered(row, media)
        rejected = _text(row, "rejected_response")
    else:
        question, chosen, rejected = _chosen_and_rejected(row, media)
    if chosen == rejected:
        raise RowError("equal_answers", "the chosen and the rejected answer are the same")
    draft = _seeded_pair(row, question, chosen, rejected)
    for name in ("images", "audios", "videos"):
        getattr(draft, name)[:0] = getattr(media, name)
    draft.dropped = media.dropped
    return draft


def _seeded_pair(row: Row, question: str, good: str, bad: str) -> Draft:
    first = _digest(row.seed, question, good, bad)[0] % 2 == 0
    draft = _pair(row, question, *((good, bad) if first else (bad, good)))
    draft.gold = {"better": "A" if first else "B"}
    return draft


def _digest(seed: int, *texts: str) -> bytes:
    text = "\0".join([str(seed), *texts])
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=1).digest()


def winner_of(value: Any, key: str) -> str:
    """Return ``A``, ``B`` or ``equal``, as data sets write it.

    Raises:
        RowError: If the value is another; a bare number is, since some count from 0.
    """
    winner = _WINNERS.get(value.strip().lower()) if isinstance(value, str) else None
    if winner is None:
        raise RowError("bad_field", f"{key}: A, B or equal is needed, not {value!r:.40}")
    return winner


def _winner(row: Row, key: str, first: str, second: str) -> str:
    winner = winner_of(row[key], key)
    if winner != "equal" and _text(row, first) == _text(row, second):
        raise RowError("equal_answers", "the better and the worse answer are the same")
    return winner


def _pair(row: Row, question: str, a: str, b: str) -> Draft:
    question = _in_context(row, question)
    options = options_of(row)
    if options:
        question = options_of_pair(question, options, [a, b])
    draft = Draft(judge_prompt(question, escape_tags(a), escape_tags(b)))
    if candidates(draft.messages) is None:
        raise RowError("candidates_unclear", "an answer is empty")
    draft.task, draft.quotes = "judge", True
    take_media(row, draft)
    return draft


def _in_context(row: Row, question: str) -> str:
    """Return a question with what the row says before it: a system turn, and a history."""
    given = [row[key] for key in ("system", "system_prompt") if row.peek(key)]
    if not all(isinstance(text, str) for text in given):
        raise RowError("bad_field", "system: a text is needed")
    if not question.strip():
        raise RowError("no_prompt", "the question is empty")
    earlier = [(turn["role"], turn["content"]) for turn in earlier_turns(row)]
    return "\n\n".join([*given, _dialogue([*earlier, ("user", question)])])


def _asked_and_answered(row: Row, media: Draft) -> tuple[str, str]:
    if "messages" not in row:
        return _text(row, "query"), _text(row, "response")
    return _split_dialogue(_turns(row["messages"], "messages", media), "messages")


def _chosen_and_rejected(row: Row, media: Draft) -> tuple[str, str, str]:
    chosen, rejected = row["chosen"], row["rejected"]
    asked, prompt = _prompt(row)
    if isinstance(prompt, list):
        prompt = _dialogue(_turns(prompt, str(asked), media))
    sides, drafts = [], []
    for key, value in (("chosen", chosen), ("rejected", rejected)):
        draft = Draft([])
        if isinstance(value, dict):
            value = [value]
        if isinstance(value, list):
            turns = _turns(value, key, draft)
            if len(turns) == 1 and prompt is not None:
                sides.append((prompt, turns[0][1]))
            else:
                if prompt is not None:
                    _check_prompt(str(asked), prompt, turns)
                sides.append(_split_dialogue(turns, key))
        elif prompt is not None:
            sides.append((prompt, _as_text(value, key)))
        else:
            sides.append(_split_text(_as_text(value, key), key))
        drafts.append(draft)
    (question, good), (other, bad) = sides
    if not isinstance(question, str) or question != other:
        raise RowError("bad_field", "chosen and rejected answer different questions")
    _add_media(media, *drafts)
    return question, good, bad


def _prompt(row: Row) -> tuple[str | None, Any]:
    """Return the column of the prompt that stands beside two answers, and what it holds."""
    names = ("prompt", "question", "query", "input", "conversations", "messages")
    there = [key for key in names if row.peek(key) is not None]
    asked = next((key for key in there if row.peek(key)), next(iter(there), None))
    told = _text(row, "instruction") if row.peek("instruction") else ""
    if not told or not asked or not row[asked]:
        return ("instruction", told) if told else (asked, row[asked] if asked else None)
    if not isinstance(row[asked], str):
        raise RowError("bad_field", f"instruction: {asked} is a dialogue with turns of its own")
    text = row[asked].strip()
    return asked, text if text == told else f"{told}\n{text}"


def _check_prompt(key: str, prompt: Any, turns: list[tuple[str, str]]) -> None:
    """Check that a prompt beside a whole dialogue is of that dialogue."""
    texts = [text for _, text in turns[:-1]] + [_dialogue(turns[:-1])]
    if not isinstance(prompt, str) or _bare(prompt) not in map(_bare, texts):
        raise RowError("bad_field", f"{key}: not what chosen and rejected answer")


def _bare(text: str) -> str:
    for tag in (PLACE, *TAGS.values()):
        text = text.replace(tag, "")
    return text.strip()


def _add_media(media: Draft, chosen: Draft, rejected: Draft) -> None:
    """Add to the prompt's media those of the two sides, which must show the same ones."""
    media.dropped += [name for name in chosen.dropped if name not in media.dropped]
    media.dropped += [name for name in rejected.dropped if name not in media.dropped]
    for name in TAGS:
        shown = getattr(chosen, name)
        if shown != getattr(rejected, name):
            raise RowError("rejected_images", f"chosen and rejected show different {name}")
        if not getattr(media, name):
            getattr(media, name).extend(shown)
        elif shown and shown != getattr(media, name):
            raise RowError("bad_field", f"the prompt and chosen show different {name}")


def _turns(value: Any, where: str, media: Draft) -> list[tuple[str, str]]:
    turns = list(read_turns(value, where, media))
    role, content = turns[-1][0]["role"], turns[-1][1]
    if role == "assistant" and isinstance(content, list):
        check_answer(content, where)
    if turns[-1][0].get("loss") is False:
        raise RowError("loss_false", f"{where}: loss: false stands on the answer")
    return [(turn["role"], join_parts(content, media, where)) for turn, content in turns]


def _split_dialogue(turns: list[tuple[str, str]], where: str) -> tuple[str, str]:
    if len(turns) < 2 or turns[-1][0] != "assistant":
        raise RowError("no_answer", f"{where}: the last turn is not an answer to a question")
    return _dialogue(turns[:-1]), turns[-1][1]


def _dialogue(turns: list[tuple[str, str]]) -> str:
    """Return turns as one text: the question alone, or the dialogue up to it."""
    asked = [(role, text) for role, text in turns if role != "system"]
    if len(asked) == 1:
        return "\n\n".join(text for _, text in turns)
    names = {"user": "Human", "assistant": "Assistant", "system": "System"}
    return "\n\n".join(f"{names[role]}: {text}" for role, text in turns)


def _split_text(text: str, key: str) -> tuple[str, str]:
    """Split a dialogue of HH-RLHF before its last answer."""
    before, found, answer = text.replace("\r\n", "\n").rpartition(_TURN)
    if not found:
        raise RowError("bad_field", f"{key}: no prompt beside it, and no dialogue in it")
    if _ASKED in answer:
        raise RowError("no_answer", f"{key}: the last turn is not an answer to a question")
    before, asked = before.strip(), _ASKED.strip()
    single = _ASKED not in before and before.startswith(asked)
    return before.removeprefix(asked).strip() if single else before, answer.strip()


def _text(row: Row, key: str) -> str:
    return text_of(row, key).strip()


def _as_text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise RowError("bad_field", f"{key}: a text is needed")
    return value.strip()


def is_preference(row: Mapping[str, Any]) -> bool:
    """Whether a row has a chosen and a rejected answer."""
    if {"chosen", "rejected"} <= row.keys():
        return True
    rejected = (
        row.peek("rejected_response") if isinstance(row, Row) else row.get("rejected_response")
    )
    return isinstance(rejected, str) and bool(rejected) and bool({"messages", "query"} & row.keys())

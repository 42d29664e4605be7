"""Predictions made anywhere, as answers to grade: ours and those of other suites.

The layout is told from the rows themselves:

============  ========================================================  ========================
written by    fields                                                    gold answer in
============  ========================================================  ========================
omnistage     ``judgements/<model>.jsonl``, with ``samples/`` beside    ``gold``
              them, or ``id`` and ``text``
ms-swift      ``swift infer``: ``response``, ``messages``, ``labels``   ``labels``
lmms-eval     ``<date>_samples_<task>.jsonl``: ``doc_id``,              ``target``
              ``filtered_resps``, with repeats ``resps``
VLMEvalKit    ``<model>_<set>.xlsx``, ``.tsv`` or ``.json``:            ``answer``
              ``index``, ``prediction``, ``A`` to ``Z``
EvalScope     ``predictions/…jsonl``: ``index``, ``model_output``       ``target`` of the row of the
                                                                        same index in ``reviews/``
============  ========================================================  ========================

EvalScope's repeats of a record have an index each; the review tells the record (``group_id``).
"""

import csv
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from components.eval.grading import ORDERS
from omnistage.errors import InputError
from omnistage.files import read_jsonl

Row = Mapping[str, Any]
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a file says of one record.

    Attributes:
        id: The record's id, or its index in the suite's own numbering.
        texts: What the model wrote, one for each prompt.
        gold: The gold answer, where the file has it.
        question: Likewise.
        options: Likewise, such as ``A. a cat``.
        task: Likewise.
        errors: Why there is no text, one for each prompt; empty where all have one.
        completions: All completions of the prompt, where the row has several.
        sample: Number of the sample that this is, from 1; 0 for the answer itself.
        rotation: Places that every option was moved on; 0 for the record's own order.
    """

    id: str
    texts: tuple[str, ...]
    gold: str | None = None
    question: str = ""
    options: Sequence[str] = ()
    task: str | None = None
    errors: Sequence[str | None] = ()
    completions: Sequence[str] = ()
    sample: int = 0
    rotation: int = 0


class Review(NamedTuple):
    """What EvalScope's review says of a prediction."""

    record: str
    gold: str | None = None


Reviews = Mapping[str, Review]


def read_predictions(path: Path) -> list[Prediction]:
    """Return the predictions of a file, and those of the samples beside it.

    Raises:
        InputError: If it is missing, or of no known layout.
    """
    samples = path.parent.parent / "samples" / path.name
    beside = path.parent.name == "judgements" and samples.is_file()
    return [*_of_file(path), *(_of_file(samples) if beside else ())]


def _of_file(path: Path) -> list[Prediction]:
    rows = list(_rows(path))
    if not rows:
        raise InputError(f"{path}: no predictions")
    reader = next((read for fields, read in _LAYOUTS if all(f in rows[0] for f in fields)), None)
    if reader is None:
        known = "; ".join(" and ".join(fields) for fields, _ in _LAYOUTS)
        raise InputError(
            f"{path}: no known layout of predictions; the first row has {', '.join(rows[0])}, "
            f"known are rows with {known}"
        )
    reviews = _reviews(path)
    found: list[Prediction] = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(reader(row, reviews))
        except (KeyError, IndexError, TypeError, AttributeError) as e:
            raise InputError(f"{path}: row {number} is not like the first: {e!r}") from e
    return found


def _rows(path: Path) -> Iterator[Row]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.suffix == ".xlsx":
        yield from _sheet(path)
    elif path.suffix in (".tsv", ".csv"):
        csv.field_size_limit(sys.maxsize)  # images stand in these files as base64
        with path.open(newline="", encoding="utf-8") as f:
            yield from csv.DictReader(f, delimiter="\t" if path.suffix == ".tsv" else ",")
    elif path.suffix == ".json":
        try:
            rows = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError as e:
            raise InputError(f"{path}: not valid JSON: {e}") from e
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InputError(f"{path}: a list of objects is needed")
        yield from rows
    else:
        for number, row in enumerate(read_jsonl(path)):
            yield row if _numbered(row) else {"id": str(number), **row}


def _numbered(row: Row) -> bool:
    return any(name in row for name in ("id", "doc_id", "index"))


def _sheet(path: Path) -> Iterator[Row]:
    import openpyxl  # only for sheets, and slow to import

    try:
        sheet = openpyxl.load_workbook(path, read_only=True, data_only=True).worksheets[0]
    except Exception as e:  # openpyxl lets errors of zip, XML and its own through
        raise InputError(f"{path}: not a readable sheet: {e}") from e
    rows = sheet.iter_rows(values_only=True)
    head = [str(name) for name in next(rows, ())]
    for row in rows:
        yield dict(zip(head, row, strict=False))


def _ours(row: Row, _: Reviews) -> Prediction:
    told = [row[order] for order in ORDERS if order in row]
    return Prediction(
        str(row["id"]),
        tuple(str(answer["text"]) for answer in told),
        row.get("gold"),
        task=row.get("task"),
        errors=[answer.get("error") for answer in told],
        sample=_number(row, "sample"),
        rotation=_number(row, "rotation"),
    )


def _text(row: Row, _: Reviews) -> Prediction:
    return Prediction(
        str(row["id"]),
        (str(row["text"]),),
        row.get("solution"),
        task=row.get("task"),
        sample=_number(row, "sample"),
        rotation=_number(row, "rotation"),
    )


def _number(row: Row, name: str) -> int:
    value = row.get(name)
    if value is None:
        return 0
    if not str(value).isdecimal():
        raise TypeError(f"{name} is {value!r:.40}, not a whole number")
    return int(value)


def _ms_swift(row: Row, _: Reviews) -> Prediction:
    asked = [m["content"] for m in row.get("messages", ()) if m["role"] == "user"]
    gold = row.get("labels") or row.get("solution")
    return Prediction(
        str(row["id"]),
        (str(row["response"]),),
        None if gold is None else str(gold),
        str(asked[-1]) if asked else "",
        row.get("options") or (),
        row.get("task"),
    )


def _lmms_eval(row: Row, _: Reviews) -> Prediction:
    filtered, raw = (list(_flat(row.get(name))) for name in ("filtered_resps", "resps"))
    gold, asked = row.get("target"), row.get("input")
    return Prediction(
        str(row["doc_id"]),
        (str(filtered[0]),),
        None if gold is None else str(gold),
        asked if isinstance(asked, str) else "",
        completions=next((_texts(told) for told in (filtered, raw) if len(told) > 1), ()),
    )


def _flat(answers: Any) -> Iterator[Any]:
    """Yield the completions of a record, however deep they stand in lists."""
    for answer in answers if isinstance(answers, list) else [answers]:
        if isinstance(answer, list):
            yield from _flat(answer)
        else:
            yield answer


def _texts(answers: Sequence[Any]) -> Sequence[str]:
    """Return completions; none where these are the likelihoods of choices."""
    return answers if all(isinstance(answer, str) for answer in answers) else ()


def _vlmevalkit(row: Row, _: Reviews) -> Prediction:
    filled = [letter for letter in _LETTERS if row.get(letter) not in (None, "")]
    gold = row.get("answer")
    return Prediction(
        str(row["index"]),
        ("" if row["prediction"] is None else str(row["prediction"]),),
        None if gold is None else str(gold),
        str(row.get("question") or ""),
        [f"{letter}. {row[letter]}" for letter in filled],
        "choice" if filled else None,
    )


def _evalscope(row: Row, reviews: Reviews) -> Prediction:
    told = [_content(choice["message"]["content"]) for choice in row["model_output"]["choices"]]
    asked = [m["content"] for m in row.get("messages", ()) if m["role"] == "user"]
    index = str(row["index"])
    review = reviews.get(index, Review(index))
    question = asked[-1] if asked and isinstance(asked[-1], str) else ""
    several = told if len(told) > 1 else ()
    return Prediction(review.record, (told[0],), review.gold, question, completions=several)


def _content(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content)
    return str(content)


def _reviews(path: Path) -> dict[str, Review]:
    """Return EvalScope's reviews by index: they lie beside the predictions."""
    parts = list(path.parts)
    if "predictions" not in parts:
        return {}
    place = len(parts) - 1 - parts[::-1].index("predictions")
    other = Path(*parts[:place], "reviews", *parts[place + 1 :])
    if not other.is_file():
        return {}
    found = {}
    for row in read_jsonl(other):
        index, score = str(row["index"]), row.get("sample_score") or {}
        target, group = row.get("target", score.get("target")), score.get("group_id")
        gold = None if target is None else str(target)
        found[index] = Review(index if group is None else str(group), gold)
    return found


_LAYOUTS: tuple[tuple[tuple[str, ...], Callable[[Row, Reviews], Prediction]], ...] = (
    (("id", "first", "gold"), _ours),
    (("doc_id", "filtered_resps"), _lmms_eval),
    (("index", "model_output"), _evalscope),
    (("index", "prediction"), _vlmevalkit),
    (("response",), _ms_swift),
    (("id", "text"), _text),
)

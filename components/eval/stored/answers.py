"""What files say of the records, as answers to grade: the answer itself, samples, rotations.

Several completions of one record are its samples: rows with a number in ``sample`` (from 1), rows
that name the record again, or several completions in one row. The answer is the row without a
number, else the first sample. A row with ``rotation`` r answers the same question with every option
r places further on; of VLMEvalKit's sheets these are the rows of CircularEval, whose ``index`` is
the record's and r times a million.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from components.eval.grading import Graded, grade
from components.eval.records import TestRecord
from components.eval.stored.predictions import Prediction
from components.eval.variants.rotations import own_letter
from omnistage.errors import InputError
from omnistage.files import counted

NO_PREDICTION = "the file has no prediction for this record"
_CIRCLE = 1_000_000
_NONE: Mapping[int, Prediction] = {}
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a file says of one record.

    Attributes:
        answer: What counts as the answer.
        samples: Sampled answers by number, from 1.
        rotations: Answers by the number of places that every option is moved on, from 1.
    """

    answer: Prediction
    samples: Mapping[int, Prediction] = field(default_factory=lambda: _NONE)
    rotations: Mapping[int, Prediction] = field(default_factory=lambda: _NONE)


def by_record(predictions: Sequence[Prediction], where: str) -> dict[str, Predicted]:
    """Return what a file says of each record, by its id.

    Args:
        predictions: Of the file.
        where: The file, for errors.

    Raises:
        InputError: If a sample or rotation is there twice.
    """
    told = list(_as_rotations(predictions))
    single = {p.id: p for p in told if not (p.sample or p.rotation or p.completions)}
    if len(single) == len(told):
        return {name: Predicted(p) for name, p in single.items()}
    rows: dict[str, list[Prediction]] = defaultdict(list)
    for prediction in told:
        rows[prediction.id].append(prediction)
    return {name: _predicted(found, where) for name, found in rows.items()}


def _predicted(rows: Sequence[Prediction], where: str) -> Predicted:
    plain = [row for row in rows if not row.sample and not row.rotation]
    samples = _numbered([row for row in rows if row.sample and not row.rotation], "sample", where)
    told = [replace(row, texts=(text,)) for row in plain for text in row.completions]
    if len(plain) > 1:
        told = [*plain, *told]
    if told and samples:
        raise InputError(
            f"{where}: record {plain[0].id!r} is there twice without a sample's number, and with "
            "numbers; number all samples"
        )
    samples = samples or dict(enumerate(told, 1))
    rotations = _numbered([row for row in rows if row.rotation], "rotation", where)
    nothing = Prediction(rows[0].id, (), task=rows[0].task)
    answer = next(iter([*plain, *(samples[n] for n in sorted(samples))]), nothing)
    return Predicted(answer, samples, rotations)


def _numbered(rows: Sequence[Prediction], what: str, where: str) -> dict[int, Prediction]:
    found: dict[int, Prediction] = {}
    for row in rows:
        number = row.sample if what == "sample" else row.rotation
        if number in found:
            raise InputError(f"{where}: {what} {number} of record {row.id!r} is there twice")
        found[number] = row
    return found


def _as_rotations(predictions: Sequence[Prediction]) -> Iterator[Prediction]:
    """Yield the predictions, those to rotated rows of VLMEvalKit as rotations of their record.

    A row is one where its options and gold answer are those of the record, moved on together.
    """
    circular = [p for p in predictions if p.options and p.id.isdecimal() and int(p.id) >= _CIRCLE]
    if not circular:
        yield from predictions
        return
    records = {p.id: p for p in predictions if p.options}
    moved = {id(p): record for p in circular if (record := records.get(_record_id(p)))}
    for p in predictions:
        rotation = _places(moved[id(p)], p) if id(p) in moved else 0
        yield replace(p, id=moved[id(p)].id, rotation=rotation) if rotation else p


def _record_id(prediction: Prediction) -> str:
    return str(int(prediction.id) % _CIRCLE)


def _places(record: Prediction, row: Prediction) -> int:
    """Return how many places the options of a row are moved on, 0 where they are not."""
    own, there = ([option[3:] for option in p.options] for p in (record, row))
    size = len(own)
    for places in range(1, size if len(set(own)) == size == len(there) else 0):
        if all(there[(n + places) % size] == text for n, text in enumerate(own)):
            gold = own_letter(row.gold, places, size)
            return places if gold == record.gold else 0
    return 0


def answers_of(
    records: Sequence[TestRecord], predictions: Mapping[str, Prediction]
) -> dict[str, dict[str, str]]:
    """Return ``text``, or ``error``, by prompt id; for a missing prediction that it is missing."""
    answers: dict[str, dict[str, str]] = {}
    for record in records:
        found = predictions.get(record.id)
        texts, errors = (found.texts, found.errors) if found else ((), ())
        for number, name in enumerate(record.prompt_ids):
            error = errors[number] if number < len(errors) else None
            if error or number >= len(texts):
                answers[name] = {"error": error or NO_PREDICTION}
            else:
                answers[name] = {"text": texts[number]}
    return answers


def graded_samples(
    records: Sequence[TestRecord], predicted: Mapping[str, Predicted], *, strict: bool
) -> list[list[Graded]]:
    """Return the graded answers of each sample, to the records of the tasks that have samples.

    A sample that the file lacks counts as wrong.

    Args:
        records: All test records.
        predicted: What a file says, by record id.
        strict: Whether an answer must have the format that was asked for.
    """
    of = {r.id: p.samples for r in records if (p := predicted.get(r.id)) and p.samples}
    if not of:
        return []
    tasks = {r.task.name for r in records if r.id in of}
    sampled = [r for r in records if r.task.name in tasks]
    count = max(map(max, of.values()))
    return [
        grade(
            sampled,
            answers_of(sampled, {i: s[number] for i, s in of.items() if number in s}),
            strict=strict,
        )
        for number in range(1, count + 1)
    ]


def said_in_rotations(
    records: Sequence[TestRecord],
    models: Mapping[str, Mapping[str, Predicted]],
    *,
    strict: bool,
) -> dict[str, dict[str, list[str | None]]]:
    """Return what each model says in each rotation of the options, by model and record id.

    Of a record that any model was asked in rotations, one that a file lacks names no option.

    Args:
        records: All test records.
        models: What each file says, by record id.
        strict: Whether an answer must have the format that was asked for.

    Raises:
        InputError: If a record has no options to move, or fewer than a row says.
    """
    turned = {i for found in models.values() for i, p in found.items() if p.rotations}
    asked = [r for r in records if r.id in turned]
    return {
        name: {r.id: _said(r, found.get(r.id), name, strict) for r in asked}
        for name, found in models.items()
        if any(r.id in found and found[r.id].rotations for r in asked)
    }


def _said(
    record: TestRecord, predicted: Predicted | None, where: str, strict: bool
) -> list[str | None]:
    size = len(record.row.get("options") or ())
    if predicted is None:
        return [None] * size
    if any(rotation >= size for rotation in predicted.rotations):
        raise InputError(
            f"{where}: rotation {max(predicted.rotations)} of record {record.id!r}, which has "
            f"{counted(size, 'option')}; give --records with the options of each"
        )
    said: list[str | None] = []
    for rotation in range(size):
        row = predicted.rotations.get(rotation) if rotation else predicted.answer
        text = row.texts[0] if row and row.texts and not any(row.errors) else None
        letter = None if text is None else record.task.read(record.row, text, 0, strict)
        said.append(own_letter(letter, rotation, size))
    return said


def sample_notes(
    models: Mapping[str, Mapping[str, Predicted]], samples: Mapping[str, Sequence[Sequence[Graded]]]
) -> list[str]:
    """Return what a reader must know of the samples in files."""
    notes = []
    for name, numbers in samples.items():
        sampled = [p for p in models[name].values() if p.samples]
        if all(p.answer.texts == p.samples[min(p.samples)].texts for p in sampled):
            notes.append(f"{name}: the answer to each record is its first sample, no greedy one.")
        lacking = sum(a.error == NO_PREDICTION for of in numbers for g in of for a in g.answers[:1])
        if lacking:
            notes.append(
                f"{name}: {counted(lacking, 'sample')} of {counted(len(numbers[0]), 'record')} "
                f"with {len(numbers)} each {'is' if lacking == 1 else 'are'} missing and wrong."
            )
    return notes

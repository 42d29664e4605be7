"""The test records, each with its task, prompts and gold answer, or with why it has none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from components.eval.tasks import TASKS
from components.eval.tasks.task import Prompt, Record, Task, Ungradable
from omnistage.errors import InputError
from omnistage.files import read_jsonl
from omnistage.records.record import MEDIA, modality_of
from omnistage.rewards.grounding import size_columns
from omnistage.swift.encoding import Encoded
from omnistage.swift.family import Family
from omnistage.swift.media import MediaSettings

BoxFrame = Callable[[Path], Mapping[str, list[int]]]


@dataclass(frozen=True, slots=True)
class TestRecord:
    """A record to evaluate.

    Attributes:
        row: The canonical record, with absolute media paths.
        task: Its task.
        prompts: What a model is asked; empty where that cannot be told.
        gold: The gold answer, as the task says it; empty where it cannot be read.
        error: Why no answer to it can be graded; such a record counts as wrong for every model.
        media: The media lists without the folder of this machine.
        id: The record's id.
        modality: Such as ``image`` or ``audio+video``.
        cluster: What is drawn together in a bootstrap: the record's media, or the record itself.
        prompt_ids: One id a prompt: the record's own, and with ``#2`` and so on for further ones.
    """

    __test__: ClassVar[bool] = False  # not a test class, for pytest

    row: Record
    task: Task
    prompts: tuple[Prompt, ...] = ()
    gold: str = ""
    error: str | None = None
    media: Mapping[str, Sequence[str]] = field(default_factory=dict)

    id: str = field(init=False, repr=False, compare=False)
    modality: str = field(init=False, repr=False, compare=False)
    cluster: str = field(init=False, repr=False, compare=False)
    prompt_ids: Sequence[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Tell what follows from the rest; each is read many times."""
        name = self.row["id"]
        paths = [path for kind in MEDIA for path in self.media.get(kind, ())] if self.media else []
        further = [f"{name}#{n}" for n in range(2, len(self.prompts) + 1)]
        object.__setattr__(self, "id", name)
        object.__setattr__(self, "modality", modality_of(self.row))
        object.__setattr__(self, "cluster", "\n".join(paths) or name)
        object.__setattr__(self, "prompt_ids", (name, *further))


def box_frame(family: Family, media: MediaSettings) -> BoxFrame:
    """Return what tells, for an image, in which frame a model's boxes are.

    Args:
        family: Of the model, which says in which frame its boxes are.
        media: Bounds on a shown image.
    """
    return partial(
        size_columns,
        thousandths=family.boxes_in_thousandths,
        token_side=family.token_side,
        max_pixels=media.max_pixels,
    )


def read_test_records(
    path: Path,
    root: Path,
    most: int | None = None,
    boxes: BoxFrame | None = None,
    encoded: Sequence[Encoded] = (),
) -> list[TestRecord]:
    """Return the test records.

    A record that cannot be asked or graded is kept with its error; its medium is not decoded here.

    Args:
        path: The test split.
        root: The media root.
        most: Only so many records.
        boxes: Adds the sizes of the image to records with boxes.
        encoded: What became of each record when it was encoded; one that cannot be is not asked.

    Raises:
        InputError: If there is none, or none that can be evaluated.
    """
    records: list[TestRecord] = []
    for number, row in enumerate(read_jsonl(path), 1):
        error = encoded[number - 1].error if encoded else None
        records.append(_test_record(row, root, f"{path}:{number}", boxes, error))
        if len(records) == most:
            break
    if not records:
        raise InputError(f"{path}: no test records; eval needs a test split")
    if all(record.error for record in records):
        raise InputError(f"{path}: no record can be evaluated; {records[0].id}: {records[0].error}")
    return records


def _test_record(
    row: dict[str, Any], root: Path, where: str, boxes: BoxFrame | None, error: str | None
) -> TestRecord:
    task = TASKS.get(row.get("task", ""))
    if task is None:
        raise InputError(
            f"{where} ({row.get('id')}): task {row.get('task')!r} is none of {', '.join(TASKS)}"
        )
    media = _media(row)
    missing = [p for paths in media.values() for p in paths if not (root / p).is_file()]
    row = {k: [str(root / p) for p in v] if k in MEDIA else v for k, v in row.items()}
    error = f"no file {missing[0]}" if missing else error
    if boxes and task.name == "rec" and row.get("images") and not error:
        try:
            row |= boxes(Path(row["images"][0]))
        except (OSError, ValueError) as e:
            error = f"{type(e).__name__}: the image cannot be read"
    return as_test_record(row, task, error, media)


def as_test_record(
    row: Record,
    task: Task,
    error: str | None = None,
    media: Mapping[str, Sequence[str]] | None = None,
) -> TestRecord:
    """Return a record with its prompts and gold answer, or the first reason why it has none.

    Args:
        row: The canonical record.
        task: Its task.
        error: Why it cannot be evaluated, where that is known.
        media: Its media lists without the folder of this machine; those of the row by default.
    """
    media = _media(row) if media is None else media
    try:
        prompts, gold = tuple(task.prompts(row)), task.gold(row)
    except (Ungradable, InputError) as e:
        return TestRecord(row, task, error=error or str(e), media=media)
    return TestRecord(row, task, prompts, gold, error, media)


def prompts_of(records: Sequence[TestRecord]) -> list[dict[str, Any]]:
    """Return every prompt with ``id``, ``messages`` and media, of records without an error.

    They are sorted by medium and length, so that a batch needs little padding.

    Args:
        records: The records. That a control token in a text of theirs stays text is the
            template's doing, as in training.
    """
    prompts = [
        {"id": name, "messages": prompt.messages, **_media(record.row, prompt.order)}
        for record in records
        if record.error is None
        for name, prompt in zip(record.prompt_ids, record.prompts, strict=True)
    ]
    return sorted(prompts, key=_length)


def tasks_of(records: Sequence[TestRecord]) -> dict[str, str]:
    """Return the name of the task of every prompt, by the prompt's id."""
    return {i: record.task.name for record in records for i in record.prompt_ids}


def _media(row: Record, order: Mapping[str, Sequence[int]] | None = None) -> dict[str, list[str]]:
    shown = {kind: row[kind] for kind in MEDIA if row.get(kind)}
    moved = (order or {}).items()
    return shown | {kind: [row[kind][place] for place in places] for kind, places in moved}


def _length(prompt: Mapping[str, Any]) -> tuple[list[int], int]:
    items = [len(prompt.get(kind, ())) for kind in MEDIA]
    return items, -sum(len(m["content"]) for m in prompt["messages"])

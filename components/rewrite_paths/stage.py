"""The stage: record files of any known format in, canonical records and a data card out."""

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from mmap import mmap
from pathlib import Path

from components.rewrite_paths.card.page import dropped_columns, dropped_text, write_card
from components.rewrite_paths.config import RewriteSettings
from components.rewrite_paths.convert.chunk import Report, Rows, join_rows
from components.rewrite_paths.convert.converted import ConvertedRows
from components.rewrite_paths.convert.processes import ConversionJob, convert_all
from components.rewrite_paths.convert.row import ConversionState, RecordFilters
from components.rewrite_paths.convert.tally import OUTPUTS, Tally
from components.rewrite_paths.draft import LEAKS, MISSING, Form
from components.rewrite_paths.media.finder import MediaFinder
from components.rewrite_paths.media.index import MemberIndex
from components.rewrite_paths.media.path_rules import PathRules
from components.rewrite_paths.select.arrange import Balance, arrange, needed
from components.rewrite_paths.select.test_split import plan_split
from components.rewrite_paths.sources.files import Source, find_sources, unread_files
from omnistage.errors import InputError
from omnistage.files import counted
from omnistage.records.media_facts import media_name, write_media
from omnistage.records.record import SPLITS
from omnistage.stage.contract import Context, Result, Stage

_NAMED = 5  # files named in a message


def run(context: Context[RewriteSettings]) -> Result:
    """Convert the record files of the input ``data``.

    Raises:
        InputError: If a file or pattern of the recipe is not there, if rows are missing media or
            are bad and the recipe says to stop, or if a split comes out empty.
    """
    settings = context.config
    data = context.folder("data")
    scratch = context.work / "rewrite"
    # A killed attempt took seconds or minutes, and is begun again.
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for name in OUTPUTS:
        (scratch / f"{name}.jsonl").touch()
    sources = find_sources(data / "files", settings, scratch)
    unread = unread_files(data / "files", sources)
    if unread:
        named = ", ".join(unread[:_NAMED]) + (" and others" if len(unread) > _NAMED else "")
        context.events.message(
            f"{counted(len(unread), 'record file')} not read: {named}; those to read are named in "
            "rewrite_paths.sft, .rl or .test"
        )
    context.events.message("reading the index of media")
    index = MemberIndex.load(data / "index.jsonl")
    shown = {split: _marks(len(index)) for split in OUTPUTS}
    tally, rows = _convert(context, sources, index, shown, scratch)
    _check(tally, settings)
    balances: dict[str, Balance] = {}
    if needed(settings):
        tally.seconds.clear()  # they are counted anew, of the records that stay
    for name in OUTPUTS:
        made, final = scratch / f"{name}.jsonl", context.out / f"{name}.jsonl"
        if name != "rejected" and needed(settings):
            records = join_rows(rows[name])
            balances[name] = arrange(
                made, final, name, records, settings, index, shown[name], tally
            )
        else:
            made.replace(final)
    for split, balance in balances.items():
        if settings.balance and abs(balance.more_a_than_b) > 1:
            context.events.warn(
                f"{split}: A and B are not balanced: {balance.more_a_than_b:+} of A, since the "
                "candidates of the other rows are not labelled so that they can be exchanged"
            )
    shutil.rmtree(scratch)
    for split in SPLITS:
        write_media(data / "index.jsonl", shown[split], context.out / media_name(split))
    if tally.dropped:
        context.events.message(f"columns not used: {dropped_text(tally)}")
    for finding in write_card(context.out, data, index, tally, settings):
        context.events.warn(finding)
    return Result(counts=counts_of(tally))


def _convert(
    context: Context[RewriteSettings],
    sources: list[Source],
    index: MemberIndex,
    shown: Mapping[str, memoryview],
    scratch: Path,
) -> tuple[Tally, dict[str, list[Rows]]]:
    settings = context.config
    finder = MediaFinder(
        index,
        PathRules(settings.paths),
        settings.path_in_text == "keep",
        settings.use_audio_in_video,
    )
    state = ConversionState(
        index, finder, _marks(len(index)), _marks(len(index)), shown, seed=settings.seed
    )
    filters = _filters_of(settings)
    gives = {s.shown: s for s in reversed(sources) if s.split != "test"}
    if settings.split:
        context.events.message("grouping rows by their media")
        state.converted = ConvertedRows(scratch / "grouped.bin")
        others = [s for s in sources if s.split != "test" and gives[s.shown] is not s]
        state.to_test, state.text_threshold = plan_split(
            list(gives.values()), others, state, filters, settings.split
        )
    tally = Tally()
    rows: dict[str, list[Rows]] = {split: [] for split in SPLITS}
    total = sum(source.path.stat().st_size for source in sources)
    done = 0

    def deliver(report: Report, size: int) -> None:
        nonlocal done
        done += size
        tally.add(report.tally)
        for split, part in report.rows.items():
            rows[split].append(part)
        state.test_texts |= report.texts
        context.events.progress(done, total, unit="bytes")

    offsets = [0] * len(OUTPUTS)
    workers = settings.workers or os.cpu_count() or 1
    # What test shows must be known before the others are checked against it.
    phases: list[tuple[Form, ...]] = [("test",), ("sft", "rl")]
    if settings.disjoint:
        phases = [("test",), ("sft",), ("rl",)]
    for phase in phases:
        mine = [source for split in phase for source in sources if source.split == split]
        first = [gives.get(source.shown) is source for source in mine]
        job = ConversionJob(mine, state, filters, first, scratch, needed(settings))
        offsets = convert_all(job, workers, offsets, deliver)
    return tally, rows


def _filters_of(settings: RewriteSettings) -> RecordFilters:
    filters = settings.filters
    return RecordFilters(
        settings.disjoint,
        (filters.min_characters, filters.max_characters or float("inf")),
        (filters.min_seconds, filters.max_seconds or float("inf")),
        filters.active,
        settings.deduplicate,
    )


def _marks(members: int) -> memoryview:
    """Return a byte for each member, zero at first, that forked processes share."""
    return memoryview(mmap(-1, max(members, 1)))


def counts_of(tally: Tally) -> dict[str, object]:
    """Return the row counts for the manifest: read = kept + rejected + left out."""
    rejected: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for (_, reason), count in tally.rejected.items():
        rejected[reason] += count
    for (_, cause), count in tally.left_out.items():
        left_out[cause] += count
    return {
        "rows": tally.read.total(),
        **{split: tally.kept_in(split) for split in SPLITS},
        "rejected": dict(sorted(rejected.items())),
        "left_out": dict(sorted(left_out.items())),
        "dropped_columns": dict(sorted(dropped_columns(tally).items())),
    }


def _check(tally: Tally, settings: RewriteSettings) -> None:
    reasons = {reason for _, reason in tally.rejected}
    missing = reasons & MISSING
    bad = reasons - MISSING - LEAKS
    for found, setting, what in (
        (missing, "on_missing", "rows name media that cannot be used"),
        (bad, "on_bad", "rows cannot be read"),
    ):
        if found and getattr(settings, setting) == "stop":
            raise InputError(
                f"{_examples(tally, found, what)}. Mend them, or set rewrite_paths.{setting} to "
                "reject, which sets such rows aside"
            )
    for split in SPLITS:
        if getattr(settings, split) and not tally.read[split]:
            raise InputError(f"rewrite_paths.{split}: the files named there hold no row")
        if tally.read[split] and not tally.kept_in(split):
            reasons = {reason for name, reason in tally.rejected if name == split}
            if reasons:
                raise InputError(
                    f"{split}: no row is left; " + _examples(tally, reasons, "rows were rejected")
                )


def _examples(tally: Tally, reasons: set[str], what: str) -> str:
    count = sum(n for (_, reason), n in tally.rejected.items() if reason in reasons)
    shown = [
        f"{row.file}:{row.line}: {reason}: {row.detail}"
        for reason in sorted(reasons)
        for row in tally.examples[reason][:2]
    ]
    return f"{count} of {tally.read.total()} {what}, such as " + "; ".join(shown[:4])


STAGE = Stage(
    name="rewrite_paths",
    kind="RewrittenJSONL",
    version=3,
    config=RewriteSettings,
    inputs={"data": "DatasetTarball"},
    run=run,
    program="components.rewrite_paths",
)

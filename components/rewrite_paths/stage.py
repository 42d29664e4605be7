"""The stage: record files of any known format in, canonical records and a data card out."""

import os
import shutil
from collections import Counter

from components.rewrite_paths.card import write_card
from components.rewrite_paths.chunk import Report
from components.rewrite_paths.config import RewriteSettings
from components.rewrite_paths.engine import Job, convert_all
from components.rewrite_paths.media import MediaFinder
from components.rewrite_paths.members import MemberIndex
from components.rewrite_paths.rows import LEAKS, MISSING
from components.rewrite_paths.rowwork import Shared, Wish
from components.rewrite_paths.rules import PathRules
from components.rewrite_paths.sources import ORDER, find_sources
from components.rewrite_paths.tally import OUTPUTS, Tally
from omnistage.errors import InputError
from omnistage.records import SPLITS
from omnistage.stage import Context, Result, Stage


def run(context: Context[RewriteSettings]) -> Result:
    """Convert the record files of the input ``data``.

    Raises:
        InputError: If a file or pattern of the recipe is not there, if rows are missing media or
            are bad and the recipe says to stop, or if a split comes out empty.
    """
    settings = context.config
    data = context.folder("data")
    scratch = context.work / "rewrite"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for name in OUTPUTS:
        (scratch / f"{name}.jsonl").touch()
    sources = find_sources(data / "files", settings, scratch)
    context.events.message("reading the index of media")
    index = MemberIndex.load(data / "index.jsonl")
    finder = MediaFinder(
        index,
        PathRules(settings.paths),
        settings.path_in_text == "keep",
        settings.use_audio_in_video,
    )
    shared = Shared(index, finder, bytearray(len(index)), bytearray(len(index)))
    wish = Wish(
        settings.disjoint,
        (settings.filters.min_characters, settings.filters.max_characters or float("inf")),
        (settings.filters.min_seconds, settings.filters.max_seconds or float("inf")),
        settings.filters.active,
        settings.deduplicate,
    )
    tally = Tally()
    offsets = [0] * len(OUTPUTS)
    workers = settings.workers or os.cpu_count() or 1
    total = sum(source.path.stat().st_size for source in sources)
    done = 0

    def deliver(report: Report, size: int) -> None:
        nonlocal done
        done += size
        tally.add(report.tally)
        shared.test_texts |= report.texts
        context.events.progress(done, total, unit="bytes")

    for split in ORDER:
        mine = [source for source in sources if source.split == split]
        job = Job(mine, shared, wish, [True] * len(mine), scratch, False)
        offsets = convert_all(job, workers, offsets, deliver)
    _check(tally, settings)
    for name in OUTPUTS:
        (scratch / f"{name}.jsonl").replace(context.out / f"{name}.jsonl")
    write_card(context.out, tally)
    return Result(counts=counts_of(tally))


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
    version=1,
    config=RewriteSettings,
    inputs={"data": "DatasetTarball"},
    run=run,
)

"""Run the pipeline on this machine with ``kfp.local``: the child process of ``omnistage run``.

``python -m pipelines.local RUN_FOLDER`` reads the request on its standard input and ends with the
exit code of the stage that failed, or 0.
"""

import os
import shutil
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from omnistage.errors import OmnistageError
from omnistage.events import Events
from omnistage.files import read_jsonl
from omnistage.store.open import open_store, read_manifest
from omnistage.store.uris import store_uri
from omnistage.swift.warm import warm_trainer
from omnistage.task.kfp_body import CACHED_ONLY_VARIABLE, EVENTS_VARIABLE, FORCE_VARIABLE
from pipelines.graph import graph_of, needed
from pipelines.post_training import build
from pipelines.recipe import Recipe


class RunRequest(BaseModel):
    """What is asked of a run; ``run.json`` in its folder is the same without secrets."""

    model_config = ConfigDict(extra="ignore")

    recipe: Recipe
    store: str
    first: str | None = Field(default=None, alias="from")
    last: str | None = Field(default=None, alias="to")
    force: list[str] = []


def main(folder: Path) -> int:
    """Run what a run folder asks for and return the exit code.

    Args:
        folder: Gets ``events.jsonl`` and, after an evaluation, ``report.html`` and
            ``report.json``.
    """
    events = folder / "events.jsonl"
    try:
        request = RunRequest.model_validate_json(sys.stdin.buffer.read())
        _run(request, folder, events)
    except OmnistageError as e:
        Events("run", events).emit("failed", message=str(e), exit_code=e.exit_code)
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    except Exception as e:
        failed = [row for row in read_jsonl(events) if row["event"] == "failed"]
        if not failed:
            Events("run", events).emit("failed", message=f"{type(e).__name__}: {e}", exit_code=1)
            raise
        return failed[-1]["exit_code"]
    return 0


def _run(request: RunRequest, folder: Path, events: Path) -> None:
    from kfp import local

    recipe = request.recipe.resolve()
    graph = graph_of(recipe)
    before = needed(graph, request.first)[:-1] if request.first else []
    os.environ[EVENTS_VARIABLE] = str(events)
    os.environ[FORCE_VARIABLE] = ",".join(request.force)
    os.environ[CACHED_ONLY_VARIABLE] = ",".join(before)
    # The store is the cache: KFP's own would not notice a damaged artifact.
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder / "kfp"),
        raise_on_error=True,
    )
    with warm_trainer():
        build(recipe, request.store, request.last)()
    _copy_reports(folder, events)


def _copy_reports(folder: Path, events: Path) -> None:
    """Put the run's reports where a person looks for them.

    The last is ``report.html`` and ``report.json``; of several each is ``report-STEP.html`` too.
    """
    finished = {
        r["stage"]: read_manifest(r["manifest"]) for r in read_jsonl(events) if "manifest" in r
    }
    reports = {step: made for step, made in finished.items() if made.kind == "EvalReport"}
    for step, manifest in reports.items():
        source = open_store(store_uri(manifest)).local(manifest)
        for kind in ("html", "json"):
            shutil.copyfile(source / f"report.{kind}", folder / f"report.{kind}")
            if len(reports) > 1:
                shutil.copyfile(source / f"report.{kind}", folder / f"report-{step}.{kind}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: python -m pipelines.local RUN_FOLDER", file=sys.stderr)
        raise SystemExit(2)
    raise SystemExit(main(Path(sys.argv[1])))

"""What the KFP task of every step runs, see :mod:`pipelines.step_component`."""

from collections.abc import Mapping
from typing import Any

from kfp import dsl

from components.download.sources.uri import with_source
from omnistage.task.kfp_body import publish_report, run_stage
from pipelines.steps import STAGES


def run_step(
    stage: str,
    step: str,
    config: str,
    store: str,
    result: dsl.Artifact,
    inputs: Mapping[str, dsl.Artifact],
    runtime: str,
    *,
    source: str = "",
    html: dsl.HTML | None = None,
    metrics: dsl.Metrics | None = None,
    confusion: dsl.ClassificationMetrics | None = None,
    **cluster: Any,
) -> None:
    """Run a step inside its KFP task.

    Args:
        stage: Name of its stage.
        step: Its name.
        config: Settings of the stage as JSON.
        store: URI of the store.
        result: Becomes the manifest of what it makes.
        inputs: Artifacts whose files are manifests.
        runtime: TaskRuntime as JSON.
        source: URI that a run gives instead of the sources in ``config``; empty for those.
        html: Gets the page of a report.
        metrics: Gets the figures of a report.
        confusion: Gets what a report's last model says of each gold answer.
        **cluster: Launch settings that a run gives; 0 or empty for those in ``runtime``.

    Raises:
        SystemExit: With the stage's exit code if it fails; its message is in the log.
    """
    change = with_source(source) if source else None
    made = run_stage(
        STAGES[stage], step, config, store, result, inputs, runtime, cluster, change=change
    )
    if html is not None and metrics is not None and confusion is not None:
        publish_report(made, html, metrics, confusion)

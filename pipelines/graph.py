"""How a recipe becomes a graph: its steps, what each is made from, and what a run needs.

Nothing else knows which stages there are or how they hang together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.download.stage import MODEL_STAGE
from components.download.stage import STAGE as DOWNLOAD
from components.eval.stage import STAGE as EVAL
from components.grpo.stage import STAGE as GRPO
from components.rewrite_paths.stage import STAGE as REWRITE
from components.sft.stage import STAGE as SFT
from omnistage.settings import Settings
from omnistage.stage.contract import Runtime, Stage
from pipelines.recipe import Recipe

STAGES: Mapping[str, Stage[Any]] = {
    s.name: s for s in (DOWNLOAD, MODEL_STAGE, REWRITE, SFT, GRPO, EVAL)
}


@dataclass(frozen=True)
class Step:
    """A stage with its settings and the steps that make its inputs."""

    name: str
    stage: Stage[Any]
    config: Settings
    sources: Mapping[str, str]
    """Input of the stage to the step that makes it."""
    runtime: Runtime | None = None
    """How it runs on this machine, for a stage that starts torchrun."""

    @property
    def launched(self) -> bool:
        """Whether it is a job of the trainer image on a cluster."""
        return self.stage.launched(self.config)


Graph = Mapping[str, Step]
"""The steps of a recipe by name, each after those that make its inputs."""


def graph_of(recipe: Recipe) -> Graph:
    """Return the steps of a recipe; an input that a step does not use is not one of its sources.

    Args:
        recipe: Resolved where keys are computed, see :meth:`pipelines.recipe.Recipe.resolve`.
    """
    data = {"data": "download", "records": "rewrite_paths", "model": "download_model"}
    start = {"sft": "sft"} if recipe.grpo.start_from == "sft" else {}
    shown = {name: name for name in ("sft", "grpo") if name in recipe.eval.models}
    if "grpo" in shown:
        shown = {**start, **shown}  # the model that its adapter belongs on
    runtime = recipe.runtime
    steps = (
        Step("download", DOWNLOAD, recipe.data, {}),
        Step("download_model", MODEL_STAGE, recipe.model, {}),
        Step("rewrite_paths", REWRITE, recipe.rewrite_paths, {"data": "download"}),
        Step("sft", SFT, recipe.sft, data, runtime.sft),
        Step("grpo", GRPO, recipe.grpo, {**data, **start}, runtime.grpo),
        Step("eval", EVAL, recipe.eval, {**data, **shown}, runtime.eval),
    )
    return {step.name: step for step in steps}


def needed(graph: Graph, last: str) -> list[str]:
    """Return the upstream steps of a step in the order of the graph, and itself."""
    found = {last}
    for name in reversed(list(graph)):
        if name in found:
            found.update(graph[name].sources.values())
    return [name for name in graph if name in found]


def last_step(graph: Graph) -> str:
    """Return the step that a run goes to if nobody says otherwise."""
    return list(graph)[-1]


def launched(graph: Graph) -> list[str]:
    """Return the steps that are jobs of the trainer image on a cluster."""
    return [step.name for step in graph.values() if step.launched]

"""How a recipe becomes a graph: its steps, what each is made from, and what a run needs.

Nothing else knows which stages there are or how they hang together. What a recipe writes:

- ``data``, by name: each set is downloaded and rewritten on its own;
- ``model``: the base model; ``other_models``, by name: others that are evaluated or trained on;
- ``steps``, by name: a training step says ``from``, what it starts from, and ``records``, what it
  learns; an evaluation says ``models`` and ``tests``.

Where a step has records of several sets, or records of a set beside which another is tested, a
step ``mix-NAME`` puts them together and leaves out what the tests show.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.download.config import DownloadSettings
from components.mix.config import MixSettings
from omnistage.settings import Settings
from omnistage.stage.contract import Runtime, Stage, numbered
from pipelines.recipe import Recipe
from pipelines.steps import (
    BASE,
    DOWNLOAD,
    MIX,
    MODEL_STAGE,
    REWRITE,
    STAGES,
    TRAINED,
    Asking,
    Training,
    sets_of,
)


@dataclass(frozen=True)
class Step:
    """A stage with its settings and the steps that make its inputs."""

    name: str
    stage: Stage[Any]
    config: Settings
    sources: Mapping[str, str] = field(default_factory=dict)
    """Input of the stage to the step that makes it."""
    runtime: Runtime | None = None
    """How it runs on this machine, for a stage that starts torchrun."""
    parameter: str = ""
    """Parameter of a submitted run that gives it another source."""

    @property
    def launched(self) -> bool:
        """Whether it is a job of the trainer image on a cluster."""
        return self.stage.launched(self.config)

    @property
    def kind(self) -> Any:
        """The kind of artifact that it makes."""
        return self.stage.kind_of(self.config)


Graph = Mapping[str, Step]
"""The steps of a recipe by name, each after those that make its inputs."""


def graph_of(recipe: Recipe) -> Graph:
    """Return the steps of a recipe.

    Args:
        recipe: Resolved where keys are computed, see :meth:`pipelines.recipe.Recipe.resolve`.
    """
    sets = {name: _Set(name, len(recipe.data) > 1) for name in recipe.data}
    model = Step("download_model", MODEL_STAGE, recipe.model, parameter=MODEL_STAGE.source)
    steps = [sets[name].fetching(settings) for name, settings in recipe.data.items()]
    steps.append(model)
    others = {name: _other_model(name, section) for name, section in recipe.other_models.items()}
    steps += others.values()
    steps += [sets[name].rewriting(settings) for name, settings in recipe.data.items()]
    tested = dict.fromkeys(
        name
        for step in recipe.steps.values()
        if isinstance(step, Asking)
        for name in sets_of(step, recipe.data)["tests"]
    )
    made = {BASE: model.name}
    known = made | {name: step.name for name, step in others.items()}
    for name, settings in recipe.steps.items():
        (named,) = sets_of(settings, recipe.data).values()
        mix = _mix(name, settings, [sets[n] for n in named], [sets[n] for n in tested], recipe.seed)
        sources = {numbered("data", n): sets[s].download for n, s in enumerate(named, 1)}
        sources["records"] = mix.name if mix else sets[named[0]].rewrite
        stage = STAGES[settings.stage]
        config = _part(settings, stage.config)
        if isinstance(settings, Training):
            sources["start"] = known[settings.start]
            made[name] = known[name] = name
        else:
            models = settings.models or list(made)
            config = config.model_copy(update={"models": models})
            sources |= {numbered("model", n): known[m] for n, m in enumerate(models, 1)}
        steps += [mix] if mix else []
        runtime = Runtime(nproc_per_node=settings.nproc_per_node)
        steps.append(Step(name, stage, config, sources, runtime))
    return {step.name: step for step in steps}


@dataclass(frozen=True)
class _Set:
    """The two steps of a data set; with several sets their names have the set's."""

    name: str
    several: bool

    @property
    def download(self) -> str:
        return f"{DOWNLOAD.name}-{self.name}" if self.several else DOWNLOAD.name

    @property
    def rewrite(self) -> str:
        return f"{REWRITE.name}-{self.name}" if self.several else REWRITE.name

    def fetching(self, settings: Any) -> Step:
        """Return the step that fetches it."""
        own = f"{DOWNLOAD.source}_{self.name.replace('-', '_')}" if self.several else ""
        config = _part(settings, DownloadSettings)
        return Step(self.download, DOWNLOAD, config, parameter=own or DOWNLOAD.source)

    def rewriting(self, settings: Any) -> Step:
        """Return the step that rewrites its records."""
        return Step(self.rewrite, REWRITE, settings.rewrite_paths, {"data": self.download})


def _other_model(name: str, settings: Settings) -> Step:
    """Return the step that fetches a model beside the base model."""
    parameter = f"{MODEL_STAGE.source}_{name.replace('-', '_')}"
    return Step(f"{MODEL_STAGE.name}-{name}", MODEL_STAGE, settings, parameter=parameter)


def _mix(
    name: str, settings: Any, sets: Sequence[_Set], tested: Sequence[_Set], seed: int
) -> Step | None:
    """Return the step that puts a step's records together, or None where they are as they come.

    Args:
        name: The step.
        settings: Its settings.
        sets: Its data sets.
        tested: All sets that are tested in the recipe. One's own tests are kept apart already.
        seed: Of the recipe.
    """
    training = isinstance(settings, Training)
    foreign = [s for s in tested if len(sets) > 1 or s not in sets] if training else []
    if len(sets) == 1 and not foreign:
        return None
    weighted = isinstance(getattr(settings, "records", None), dict)
    config = MixSettings(
        split=TRAINED[settings.stage] if training else "test",
        weights=list(settings.records.values()) if weighted else [],
        mix_until=settings.mix_until if training else "all",
        seed=getattr(settings, "seed", seed),
    )
    sources = {numbered("records", n): s.rewrite for n, s in enumerate(sets, 1)}
    sources |= {numbered("tests", n): s.rewrite for n, s in enumerate(foreign, 1)}
    return Step(f"mix-{name}", MIX, config, sources)


def _part(settings: Settings, config: type[Settings]) -> Settings:
    """Return those of a section's settings that are of one stage."""
    return config.model_validate(settings.model_dump(include=set(config.model_fields)))


def needed(graph: Graph, *last: str) -> list[str]:
    """Return the upstream steps of some steps in the order of the graph, and themselves."""
    found = set(last)
    for name in reversed(list(graph)):
        if name in found:
            found.update(graph[name].sources.values())
    return [name for name in graph if name in found]


def launched(graph: Graph) -> list[str]:
    """Return the steps that are jobs of the trainer image on a cluster."""
    return [step.name for step in graph.values() if step.launched]

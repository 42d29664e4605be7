"""What a run would do, from what the store already holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omnistage.errors import DamagedError, InputError
from omnistage.stage.key import input_digests, stage_key
from omnistage.store.layout import Store
from omnistage.store.manifest import Manifest
from pipelines.graph import Graph, Step, needed


@dataclass(frozen=True)
class PlannedStep:
    """What a run would do with a step."""

    name: str
    key: str | None
    """None while an input of it is not made yet."""
    cached: bool | None
    """Whether the store has its result; None when that depends on an upstream step."""
    reason: str
    result: Manifest | None = None
    """What the store has."""


def step_key(step: Step, made: Mapping[str, Manifest]) -> str:
    """Return the key of a step's result, given what the steps before it have made."""
    inputs = {name: made[source] for name, source in step.sources.items()}
    return stage_key(step.stage, step.config, input_digests(step.stage, inputs))


def plan(graph: Graph, names: Sequence[str], store: Store) -> list[PlannedStep]:
    """Return what a run would do, step by step, as far as it can be known before.

    Args:
        graph: Of a resolved recipe.
        names: The steps of the run, each after its upstream steps.
        store: Where results are.
    """
    made: dict[str, Manifest] = {}
    planned = []
    for step in (graph[name] for name in names):
        waits = [s for s in step.sources.values() if s not in made]
        if waits:
            reason = f"depends on what {', '.join(waits)} will make"
            planned.append(PlannedStep(step.name, None, None, reason))
            continue
        key = step_key(step, made)
        try:
            found = store.find(step.stage.name, key, step.kind)
            reason = "in the store, whole" if found else "not in the store"
        except DamagedError as e:
            found, reason = None, str(e)
        if found:
            made[step.name] = found
        planned.append(PlannedStep(step.name, key, found is not None, reason, found))
    return planned


def stored_inputs(graph: Graph, last: str, store: Store) -> dict[str, Manifest]:
    """Return the inputs of a step, which its upstream steps have put into a store.

    The store is asked once for each upstream step: to find an artifact it reads every byte of it.

    Args:
        graph: Of a resolved recipe.
        last: The step that needs them.
        store: Where they are.

    Raises:
        InputError: If one is not there, naming the step that makes it.
    """
    made: dict[str, Manifest] = {}
    for step in (graph[name] for name in needed(graph, last)[:-1]):
        key = step_key(step, made)
        found = store.find(step.stage.name, key, step.kind)
        if found is None:
            raise InputError(
                f"{last}: the result of {step.name}, {key}, is not in {store.uri}; "
                f"run the recipe up to {step.name} first"
            )
        made[step.name] = found
    return {i: made[s] for i, s in graph[last].sources.items()}

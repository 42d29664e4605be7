"""What a run would do, from what the store already holds."""

from dataclasses import dataclass

from omnistage.errors import DamagedError, InputError
from omnistage.stage.key import stage_key
from omnistage.store.layout import Store
from omnistage.store.manifest import Manifest
from omnistage.store.open import open_store
from pipelines.graph import SOURCES, STAGES
from pipelines.recipe import Recipe, config_of, resolve


@dataclass(frozen=True)
class PlannedStage:
    """What a run would do with a stage."""

    name: str
    key: str | None
    """None while an input of it is not made yet."""
    cached: bool | None
    """Whether the store has its result; None when that depends on a stage before it."""
    reason: str


def plan(recipe: Recipe, store: str) -> list[PlannedStage]:
    """Return what a run would do, stage by stage, as far as it can be known before.

    Args:
        recipe: What to run.
        store: URI of the store.
    """
    recipe, opened = resolve(recipe), open_store(store)
    digests: dict[str, str] = {}
    planned = []
    for name, stage in STAGES.items():
        sources = SOURCES.get(name, {})
        waits = [s for s in sources.values() if s not in digests]
        if waits:
            reason = f"depends on what {', '.join(waits)} will make"
            planned.append(PlannedStage(name, None, None, reason))
            continue
        key = stage_key(stage, config_of(recipe, name), {i: digests[s] for i, s in sources.items()})
        try:
            found = opened.find(name, key)
            reason = "in the store, whole" if found else "not in the store"
        except DamagedError as e:
            found, reason = None, str(e)
        if found:
            digests[name] = found.digest
        planned.append(PlannedStage(name, key, found is not None, reason))
    return planned


def stored_inputs(recipe: Recipe, stage: str, store: Store) -> dict[str, Manifest]:
    """Return the inputs of a stage, which the stages before it have put into a store.

    Args:
        recipe: Already resolved.
        stage: The stage that needs them.
        store: Where they are.

    Raises:
        InputError: If one is not there, naming the stage that makes it.
    """
    made: dict[str, Manifest] = {}
    for name, source in SOURCES.get(stage, {}).items():
        before = stored_inputs(recipe, source, store)
        digests = {i: m.digest for i, m in before.items()}
        key = stage_key(STAGES[source], config_of(recipe, source), digests)
        found = store.find(source, key)
        if found is None:
            raise InputError(
                f"{stage}: its input {name!r} is not in {store.uri}: {source} {key} was not made; "
                f"run the recipe up to {source} first"
            )
        made[name] = found
    return made

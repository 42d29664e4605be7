"""What a run has made of a step, and its files as others load them."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.files import read_json, write_json
from omnistage.recipe.errors import nearest
from omnistage.runs.folder import find_run, read_run
from omnistage.settings import Settings
from omnistage.stage.contract import Context, TaskRuntime
from omnistage.store.layout import CONTENT, MANIFEST, Store
from omnistage.store.manifest import Manifest
from omnistage.store.open import open_store, read_manifest
from omnistage.store.uris import store_uri
from omnistage.swift.family import Family, family_of, refuse_code
from omnistage.swift.lineage import ADAPTER, Lineage, lineage_of, merged

_MODEL = "model"
_NAMED = "base_model_name_or_path"


@dataclass(frozen=True)
class Trained:
    """What a training step of a run has made."""

    step: str
    recipe: str
    made: Manifest
    lineage: Lineage
    reports: tuple[Manifest, ...]
    """The run's evaluations, those of other models too."""

    @property
    def is_adapter(self) -> bool:
        """Whether it is an adapter, and not a model with all weights."""
        return any(f.path.startswith(f"{ADAPTER}/") for f in self.made.files)

    @property
    def config(self) -> dict[str, Any]:
        """The step's settings."""
        return self.made.produced_by.get("config", {})

    @property
    def published_base(self) -> str | None:
        """The hub's name of the base model, where it came from a hub."""
        for source in self.lineage.base.metadata.get("sources", ()):
            if name := source.get("repo") or source.get("model"):
                return name
        return None


def trained(home: Path, run: str | None, step: str) -> Trained:
    """Return what a training step of a run has made.

    Args:
        home: omnistage's folder.
        run: The run's name; the latest by default.
        step: The step's name.

    Raises:
        InputError: If there is no such run or step, or the step trained nothing.
    """
    found = read_run(find_run(home, run))
    stages = {stage.name: stage for stage in found.stages}
    if step not in stages:
        hint = nearest(step, stages) or f"its steps are {', '.join(stages)}"
        raise InputError(f"{found.folder.name}: no step {step!r}; {hint}")
    made = _manifest(stages[step].uri)
    if made is None:
        raise InputError(f"{found.folder.name}: {step} has no result: it is {stages[step].state}")
    if "lineage" not in made.metadata:
        raise InputError(f"{step}: {made.kind} is no trained model; name a training step")
    others = (_manifest(stage.uri) for stage in found.stages)
    reports = tuple(m for m in others if m and m.kind == "EvalReport")
    return Trained(step, found.recipe, made, lineage_of(made), reports)


def _manifest(uri: str | None) -> Manifest | None:
    """Return the manifest beside an artifact's content, or None where there is no artifact."""
    return read_manifest(f"{uri.removesuffix(f'/{CONTENT}')}/{MANIFEST}") if uri else None


def context_of(what: Trained, work: Path, events: Events) -> Context[Settings]:
    """Return what fetches artifacts and merges adapters outside of a stage."""
    store: Store = open_store(store_uri(what.made))
    return Context("export", Settings(), {}, store, work, work, "", TaskRuntime(), events)


def write_files(what: Trained, merge: bool, context: Context[Any], out: Path) -> Family:
    """Write the files of a model or an adapter, as transformers, peft and ms-swift load them.

    What a family's loader wants beside the weights is there in any case.

    Args:
        what: The step's result.
        merge: Merge an adapter into the weights it belongs on.
        context: Fetches and merges.
        out: Folder to write to; it is there and empty.

    Returns:
        The model's family.

    Raises:
        InputError: If an adapter belongs on a model that exists nowhere but merged.
        StageFailedError: If ms-swift cannot merge it.
    """
    lineage = what.lineage
    base = context.files(lineage.base) / "files"
    family = family_of(lineage.base, base)
    if not what.is_adapter:
        refuse_code(context.files(what.made) / _MODEL)
        _copy(context.files(what.made) / _MODEL, out)
    elif merge:
        _copy(merged(context, lineage, family, what.config.get("dtype", "bfloat16")), out)
    else:
        _check_alone(what)
        refuse_code(context.files(what.made) / ADAPTER)
        _copy(context.files(what.made) / ADAPTER, out)
        if what.published_base and lineage.model.kind == "BaseModel":
            path = out / "adapter_config.json"
            write_json(path, {**read_json(path), _NAMED: what.published_base})
        return family
    for name in family.special_files:
        if not (out / name).exists():
            if not (base / name).is_file():
                raise InputError(f"{base}: no {name}, which {family.title} is not loaded without")
            shutil.copy2(base / name, out / name)
    return family


def _check_alone(what: Trained) -> None:
    below = what.lineage.adapters[:-1]
    if below or what.lineage.model.kind != "BaseModel":
        parts = [what.lineage.model, *below]
        named = " with ".join(f"{m.stage} {m.key[:12]}" for m in parts)
        raise InputError(
            f"{what.step}: its adapter belongs on {named}, which nobody else has; "
            "export it with --merged"
        )


def _copy(source: Path, out: Path) -> None:
    for path in sorted(source.iterdir()):
        if path.is_file():
            shutil.copy2(path, out / path.name)


def source_of(told: dict[str, Any]) -> str | None:
    """Return where the bytes of an input came from, if from a hub: its name and commit.

    Args:
        told: What the manifest of a step says of an input.
    """
    try:
        found = _manifest(told.get("uri"))
    except InputError:
        return None  # removed since
    names = [
        f"{source['repo']} at {source.get('resolved_revision', source.get('revision'))}"
        for source in (found.metadata.get("sources", ()) if found else ())
        if source.get("repo")
    ]
    return ", ".join(names) or None


def steps_below(what: Trained) -> Iterator[Manifest]:
    """Yield what the model is made of: the base model, then every step, the exported one last."""
    lineage = what.lineage
    found = {m.digest: m for m in (lineage.base, lineage.model, *lineage.adapters, what.made)}
    yield from found.values()

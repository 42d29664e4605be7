"""What a trained model is made of: its base model, its weights, and adapters in order.

The manifest of a training step's artifact says it in ``metadata.lineage``: ``base``, the model that
everything began with, whose configuration and processor hold for all that follow; ``model``, whose
weights the adapter belongs on, or none where the artifact has all weights itself; ``adapters``,
those that were merged into these weights before its own was trained, in order.
"""

import shutil
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omnistage.errors import InputError
from omnistage.files import locked, read_json
from omnistage.stage.contract import Context
from omnistage.store.manifest import Kind, Manifest, content_name
from omnistage.store.reference import reference, referred
from omnistage.store.uris import manifest_uri
from omnistage.swift.arguments import command_line
from omnistage.swift.family import Family, family_of, refuse_code
from omnistage.swift.media import process_environment
from omnistage.swift.settings import Dtype, TrainingSettings
from omnistage.torchrun import run as local
from omnistage.torchrun.job import TorchrunJob, gpu_count

MODELS: tuple[Kind, ...] = ("BaseModel", "SFTCheckpoint", "LoRAAdapter", "RLCheckpoint")
"""Artifacts that training can start from and that can be evaluated."""
_FOLDERS = {"BaseModel": "files"}
ADAPTER = "adapter"


@dataclass(frozen=True)
class Lineage:
    """What a model is made of."""

    base: Manifest
    """Where everything began: configuration and processor."""
    model: Manifest
    """The weights: the base model's, or those of a step that trained all of them."""
    adapters: tuple[Manifest, ...] = ()
    """On top of them, in order."""


@dataclass(frozen=True)
class Start:
    """What a training step starts from."""

    below: Lineage
    """Of the weights that are loaded; its adapters are merged into them."""
    family: Family
    base: Path
    """Folder with configuration and processor."""
    model: Path
    """Folder with the weights to load."""
    adapter: Path | None
    """Adapter to train on."""

    @property
    def name(self) -> str:
        """What the settings of an adapter call the model it belongs on: the same everywhere."""
        model = self.below.model
        parts = [f"{content_name(model)}/{_FOLDERS.get(model.kind, 'model')}"]
        parts += [f"{content_name(a)}/{ADAPTER}" for a in self.below.adapters]
        return "+".join(parts)

    def lineage(self, tuner: str) -> dict[str, Any]:
        """Return the lineage of what is trained from here, for its manifest.

        Args:
            tuner: ``full`` where it has all weights itself.
        """
        whole = tuner == "full"
        return {
            "base": reference(self.below.base),
            "model": None if whole else reference(self.below.model),
            "adapters": [] if whole else [reference(a) for a in self.below.adapters],
        }


def lineage_of(made: Manifest) -> Lineage:
    """Return what a base model, or what a training step has made, is made of.

    Raises:
        InputError: If its manifest does not say so, or something it is made of is gone.
    """
    if made.kind == "BaseModel":
        return Lineage(made, made)
    told = made.metadata.get("lineage")
    if not isinstance(told, dict) or not isinstance(told.get("adapters", []), list):
        raise InputError(f"{manifest_uri(made)}: it does not say what model it belongs on")
    base = referred(told.get("base"), made)
    if told.get("model") is None:
        return Lineage(base, made)
    below = [referred(a, made) for a in told.get("adapters", [])]
    return Lineage(base, referred(told["model"], made), (*below, made))


def start_of(context: Context[Any], config: TrainingSettings) -> Start:
    """Return what a training step starts from: its input ``start``, as its settings want it.

    Raises:
        InputError: If the model is of no known family.
        StageFailedError: If adapters cannot be merged.
    """
    lineage = lineage_of(context.inputs["start"])
    base = context.files(lineage.base) / "files"
    family = family_of(lineage.base, base)
    adapters, adapter = lineage.adapters, None
    if adapters and config.tuner == "lora" and config.on_adapter == "continue":
        *adapters, last = adapters
        adapter = _adapter(context, last)
        _warn_of_other_rank(context, config, adapter)
    below = Lineage(lineage.base, lineage.model, tuple(adapters))
    model = merged(context, below, family, config.dtype)
    return Start(below, family, base, model, adapter)


def loadable(
    context: Context[Any], made: Manifest, family: Family, dtype: Dtype
) -> tuple[Path, Path | None, list[str]]:
    """Return how a model is loaded: folder of the weights, adapter on top, and all digests.

    Args:
        context: Of the stage.
        made: A base model, or what a training step has made.
        family: The model's.
        dtype: Type of weights that adapters are merged into.
    """
    lineage = lineage_of(made)
    digests = [m.digest for m in (lineage.model, *lineage.adapters)]
    *below, last = lineage.adapters or (None,)
    model = merged(context, Lineage(lineage.base, lineage.model, tuple(below)), family, dtype)
    return model, _adapter(context, last) if last else None, digests


def merged(context: Context[Any], lineage: Lineage, family: Family, dtype: Dtype) -> Path:
    """Return a folder with a model's weights, all of its adapters merged into them.

    A merged model is kept in the store's scratch folder of this node.

    Raises:
        InputError: If the model or an adapter brings code.
        StageFailedError: If the trainer cannot merge them.
    """
    model = context.files(lineage.model) / _FOLDERS.get(lineage.model.kind, "model")
    refuse_code(model)
    parts = [dtype, lineage.model.digest]
    for adapter in lineage.adapters:
        parts.append(adapter.digest)
        folder = context.store.scratch / "merged" / sha256("\n".join(parts).encode()).hexdigest()
        with locked(folder.with_suffix(".lock"), context.step):
            if not folder.is_dir():
                _merge(context, family, dtype, model, _adapter(context, adapter), folder)
        model = folder
    return model


def _adapter(context: Context[Any], made: Manifest) -> Path:
    folder = context.files(made) / ADAPTER
    refuse_code(folder)
    return folder


def _merge(
    context: Context[Any], family: Family, dtype: Dtype, model: Path, adapter: Path, target: Path
) -> None:
    """Write a model with an adapter merged into its weights; seen whole or not at all."""
    program = find_spec("swift.cli.export")
    if program is None or program.origin is None:
        raise InputError("ms-swift is not installed here: install omnistage with its extra `train`")
    context.events.message("merging an adapter into the weights")
    part = target.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    arguments = {
        "model": str(model),
        "model_type": family.model_type,
        "template": family.template,
        "adapters": [str(adapter)],
        "merge_lora": True,
        "torch_dtype": dtype,
        "output_dir": str(part),
    }
    job = TorchrunJob(
        name="swift export",
        program=(program.origin, *command_line(arguments)),
        log=context.work / "merge.log",
        env=process_environment(gpu_count()),
    )
    seconds = local.run(job, lambda: None)
    context.events.emit("process", name=job.name, seconds=seconds)
    part.rename(target)


def _warn_of_other_rank(context: Context[Any], config: TrainingSettings, adapter: Path) -> None:
    """Say which settings of a new adapter are not used, since an earlier one is trained on."""
    there = read_json(adapter / "adapter_config.json")
    for setting, own in (("lora_rank", "r"), ("lora_alpha", "lora_alpha")):
        wanted: float = getattr(config, setting)
        if there.get(own) not in (None, wanted):
            context.events.warn(
                f"{setting} {wanted} is not used: the adapter that is trained on has {there[own]}; "
                "on_adapter: add trains a new one on top of it"
            )

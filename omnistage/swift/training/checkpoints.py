"""Checkpoints of the trainer: which is the newest whole one, and what of it is the model."""

import re
import shutil
import zipfile
from pathlib import Path

import orjson

from omnistage.errors import StageFailedError
from omnistage.files import read_json, write_json
from omnistage.swift.family import SPECIAL_FILES

_STATE = re.compile(
    r"(optimizer|scheduler|rng_state.*|training_args|scaler)\.(pt|pth|bin)"
    r"|trainer_state\.json|global_step\d+|latest|zero_to_fp32\.py|args\.json"
)


def checkpoints(folder: Path) -> list[Path]:
    """Return the ``checkpoint-N`` folders, the newest first."""
    found = [p for p in folder.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step of a ``checkpoint-N`` folder."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def is_whole(checkpoint: Path) -> bool:
    """Return whether a checkpoint was written to its end.

    The trainer writes it in place, so a kill leaves a part. Every safetensors file must be as long
    as its header says, every torch file a complete zip, and the trainer's state valid JSON with
    the step of the folder's name.
    """
    try:
        state = orjson.loads((checkpoint / "trainer_state.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return False
    weights = list(checkpoint.glob("*.safetensors"))
    torch_files = [*checkpoint.glob("*.pt"), *checkpoint.glob("*.pth")]
    torch_files = [p for p in torch_files if p.name not in SPECIAL_FILES]
    return (
        state.get("global_step") == step_of(checkpoint)
        and bool(weights)
        and all(_whole_safetensors(p) for p in weights)
        and _all_shards(checkpoint)
        and all(zipfile.is_zipfile(p) for p in torch_files)
        and ((checkpoint / "optimizer.pt").exists() or any(checkpoint.glob("global_step*")))
        and any(checkpoint.glob("rng_state*"))
    )


def is_last(checkpoint: Path) -> bool:
    """Return whether the training has ended with this whole checkpoint.

    The trainer, told to go on from it, would make one step more before it sees that.
    """
    state = read_json(checkpoint / "trainer_state.json")
    return state["global_step"] >= state["max_steps"] > 0


def newest_whole(folder: Path) -> Path | None:
    """Return the newest whole checkpoint and remove newer ones that are not whole."""
    for checkpoint in checkpoints(folder):
        if is_whole(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def copy_model(checkpoint: Path, target: Path, base: str = "") -> None:
    """Copy the model's files of a checkpoint, without the optimizer's and the trainer's state.

    What names a folder of this machine is left out, so that the same training gives the same
    bytes everywhere: peft's model card, and the path of the base model in the adapter's settings.

    Args:
        checkpoint: Of the trainer.
        target: Replaced.
        base: What an adapter's settings name as its base model instead of the path.

    Raises:
        StageFailedError: If the checkpoint has no weights.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    adapter = checkpoint / "adapter_config.json"
    for path in sorted(checkpoint.iterdir()):
        card = adapter.exists() and path.name == "README.md"
        if path.is_file() and not card and not _STATE.fullmatch(path.name):
            shutil.copy2(path, target / path.name)
    if not any(target.glob("*.safetensors")):
        raise StageFailedError(f"{checkpoint}: the trainer left no weights")
    if adapter.exists():
        settings = {**read_json(adapter), "base_model_name_or_path": base}
        write_json(target / "adapter_config.json", settings)


def _whole_safetensors(path: Path) -> bool:
    size = path.stat().st_size
    with path.open("rb") as f:
        length = int.from_bytes(f.read(8), "little")
        if size < 8 + length:
            return False
        try:
            header = orjson.loads(f.read(length))
        except orjson.JSONDecodeError:
            return False
    end = max((t["data_offsets"][1] for n, t in header.items() if n != "__metadata__"), default=0)
    return size == 8 + length + end


def _all_shards(checkpoint: Path) -> bool:
    index = checkpoint / "model.safetensors.index.json"
    if not index.exists():
        return True
    try:
        names = set(orjson.loads(index.read_bytes())["weight_map"].values())
    except (orjson.JSONDecodeError, KeyError):
        return False
    return all((checkpoint / name).exists() for name in names)

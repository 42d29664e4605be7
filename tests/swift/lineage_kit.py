"""Models in a store, of a few bytes each: what they are is told by their manifests."""

import json
from typing import Any

from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Kind, Manifest, content_name
from omnistage.store.reference import reference


def _commit(
    store: FolderStore, kind: Kind, stage: str, key: str, file: str, text: str, **fields: Any
) -> Manifest:
    path = store.work_folder(stage, key) / "out" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    produced_by = {"config": fields.pop("config", {}), "omnistage": "0", "libraries": {}}
    out = path.parents[len(path.relative_to(store.work_folder(stage, key) / "out").parts) - 1]
    return store.commit(out, kind, stage, key, produced_by=produced_by, **fields)


def base_model(store: FolderStore, family: str = "qwen2_5_omni", key: str = "k") -> Manifest:
    """A base model of a family."""
    text = json.dumps({"model_type": family, "key": key})
    return _commit(store, "BaseModel", "download_model", key, "files/config.json", text)


def whole_model(
    store: FolderStore,
    stage: str,
    base: Manifest,
    key: str = "k",
    file: str = "model/w.safetensors",
    text: str = "weights",
) -> Manifest:
    """A checkpoint with all weights, from a base model."""
    kind: Kind = "SFTCheckpoint" if stage == "sft" else "RLCheckpoint"
    lineage = {"base": reference(base), "model": None, "adapters": []}
    text = f"{text} of {stage} {key}" if text == "weights" else text
    return _commit(store, kind, stage, key, file, text, metadata={"lineage": lineage})


def adapter(
    store: FolderStore,
    stage: str,
    model: Manifest,
    *below: Manifest,
    key: str = "k",
    file: str = "adapter/adapter_config.json",
    auto_map: dict[str, str] | None = None,
    **config: Any,
) -> Manifest:
    """An adapter on a model's weights, into which others were merged before."""
    kind: Kind = "SFTCheckpoint" if stage == "sft" else "LoRAAdapter"
    told = model.metadata.get("lineage")
    lineage = {
        "base": told["base"] if told else reference(model),
        "model": reference(model),
        "adapters": [reference(a) for a in below],
    }
    settings = {"base_model_name_or_path": content_name(model), "r": 8, "lora_alpha": 32}
    settings |= {"auto_map": auto_map} if auto_map else {}
    return _commit(
        *(store, kind, stage, key, file, json.dumps(settings)),
        metadata={"lineage": lineage},
        config=config,
    )

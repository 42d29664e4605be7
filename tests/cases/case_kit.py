"""Takes the small data sets of ``media/`` from their folder to what a training stage trains on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.download.config import DownloadSettings, ModelSettings
from components.download.stage import MODEL_STAGE, STAGE
from components.grpo.config import GRPOSettings
from components.rewrite_paths.config import RewriteSettings
from components.rewrite_paths.stage import STAGE as REWRITE
from components.sft.config import SFTSettings
from omnistage.archives.media_root import media_root
from omnistage.events import Events
from omnistage.files import read_jsonl
from omnistage.records.record import Split
from omnistage.stage.contract import Context, TaskRuntime
from omnistage.stage.execute import execute
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Manifest
from omnistage.swift import rows as rows_module
from omnistage.swift.encode_rows import Encoder
from omnistage.swift.encoding import Encoded
from omnistage.swift.family import FAMILIES
from omnistage.swift.lineage import Lineage, Start
from omnistage.swift.rows import TrainingRows, training_rows

MEDIA = Path(__file__).with_name("media")
RECIPE: dict[str, Any] = yaml.safe_load((MEDIA / "recipe.yaml").read_text())


def _settings(step: str) -> dict[str, Any]:
    """Return what a step of the recipe says of its stage."""
    return {n: v for n, v in RECIPE["steps"][step].items() if n not in ("stage", "from")}


SETTINGS = {
    "sft": SFTSettings.model_validate(_settings("sft")),
    "rl": GRPOSettings.model_validate(_settings("grpo")),
}


@dataclass(frozen=True)
class Case:
    """A data set, downloaded and rewritten."""

    tmp: Path
    store: FolderStore
    inputs: dict[str, Manifest]
    encoder: Encoder

    @property
    def root(self) -> Path:
        """The media root."""
        data = self.inputs["data"]
        return media_root(self.store.local(data), data.digest, self.store.scratch, Events("t"))

    def records(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of sft, rl, test or rejected."""
        return list(read_jsonl(self.store.local(self.inputs["records"]) / f"{name}.jsonl"))

    def refused(self) -> dict[str, tuple[str, str]]:
        """Return reason and detail of each rejected row, by ``file:line``."""
        rows = self.records("rejected")
        return {f"{r['file']}:{r['line']}": (r["reason"], r["detail"]) for r in rows}

    def trained(self, split: Split) -> TrainingRows:
        """Return what a training stage makes of a split, encoded in this process."""

        def encode(*_: Any) -> list[Encoded]:
            self.encoder.root = self.root
            found = [self.encoder.encode(r, split == "rl") for r in self.records(split)]
            return [Encoded(r.get("tokens", {}), r.get("missing"), r.get("error")) for r in found]

        work, out = self.tmp / split / "work", self.tmp / split / "out"
        work.mkdir(parents=True)
        out.mkdir()
        config: Any = SETTINGS[split]
        events = Events(split, echo=False)
        context: Context[Any] = Context(
            split, config, self.inputs, self.store, work, out, "k", TaskRuntime(), events
        )
        kept, rows_module.encode_records = rows_module.encode_records, encode
        try:
            base, folder = self.inputs["data"], self.tmp
            start = Start(Lineage(base, base), FAMILIES["qwen2_5_omni"], folder, folder, None)
            return training_rows(context, start, config, split)
        finally:
            rows_module.encode_records = kept


def prepare(name: str, tmp: Path, encoder: Encoder) -> Case:
    """Download and rewrite a data set of ``media/``."""
    store = FolderStore(tmp / "store")
    source = {"type": "folder", "path": str(MEDIA / name)}
    fetch = DownloadSettings.model_validate({"sources": [source]}).resolve()
    data = execute(STAGE, fetch, {}, store).manifest
    settings = RewriteSettings.model_validate(
        {**RECIPE["data"]["case"]["rewrite_paths"], "workers": 1}
    )
    records = execute(REWRITE, settings, {"data": data}, store).manifest
    return Case(tmp, store, {"data": data, "records": records}, encoder)


def tiny_model(store: FolderStore) -> Manifest:
    """Make the tiny model."""
    settings = ModelSettings.model_validate({"sources": RECIPE["model"]["sources"]}).resolve()
    return execute(MODEL_STAGE, settings, {}, store).manifest

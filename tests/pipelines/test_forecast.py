"""What a plan says of each step, from what the store holds and what is estimated."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from components.download.config import HubSource
from components.download.peek import peek
from omnistage.cli import main as cli
from omnistage.errors import InputError
from omnistage.files import write_jsonl
from omnistage.recipe.document import (
    find_recipe,
    read_recipe,
    shipped_recipes,
    validate,
    with_overrides,
)
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Manifest
from omnistage.swift.encoding import encoding_key
from omnistage.swift.family import FAMILIES
from pipelines.forecast import Forecast, Known, forecast
from pipelines.graph import graph_of
from pipelines.plan import step_key
from pipelines.recipe import Recipe
from tests.components.download.download_kit import REPO, Server, add_repo
from tests.swift.size.size_kit import MODEL, vl_config

ROWS = 40
ANSWERED = [{"role": "user", "content": "x" * 40}, {"role": "assistant", "content": "y" * 36}]


def recipe(*overrides: str) -> Recipe:
    document = read_recipe(find_recipe("tiny"))
    return validate(with_overrides(document, overrides, Recipe, within="steps"), Recipe)


def known(folder: Path, *overrides: str, records: bool = True, gpu: float | None = None) -> Known:
    """What is known of the tiny recipe where its data, and maybe its records, are in the store."""
    made_of, store = recipe(*overrides), FolderStore(folder / "store")
    graph, made = graph_of(made_of), dict[str, Manifest]()
    for name in ("download", "download_model", *(["rewrite_paths"] if records else [])):
        out = folder / "made" / name
        out.mkdir(parents=True)
        (out / "file").write_text(name)
        counts = {}
        if name == "rewrite_paths":
            counts = {"sft": ROWS, "rl": ROWS, "test": 7}
            for split in ("sft", "rl"):
                write_jsonl(out / f"{split}.jsonl", [{"messages": ANSWERED}] * ROWS)
                write_jsonl(out / f"{split}.media.jsonl", [])
        step = graph[name]
        key = step_key(step, made)
        made[name] = store.commit(out, step.kind, step.stage.name, key, counts=counts)
    return Known(made_of, graph, store, made, MODEL, gpu)


def of(found: Known) -> dict[str, Forecast]:
    return {made.step: made for made in forecast(found)}


def test_steps_follow_from_rows_epochs_and_batch(tmp_path: Path) -> None:
    plan = of(known(tmp_path, "sft.epochs=2", "grpo.max_steps=null", "grpo.batch_size=64"))
    assert (plan["sft"].rows, plan["sft"].steps) == (ROWS, 2 * 3)  # 16 a batch, the last one short
    assert plan["grpo"].steps == ROWS // (64 // 16)
    assert plan["eval"].rows == 7


def test_max_steps_and_the_records_of_an_evaluation_cut_it_short(tmp_path: Path) -> None:
    plan = of(known(tmp_path, "sft.max_steps=2", "eval.max_records=5"))
    assert (plan["sft"].steps, plan["eval"].rows) == (2, 5)


def test_tokens_are_estimated_until_the_records_are_encoded(tmp_path: Path) -> None:
    found = known(tmp_path)
    before = of(found)["sft"]
    assert before.estimated
    assert before.tokens
    assert before.tokens["by_modality"] == {"text": ROWS * 20}

    config: Any = found.graph["sft"].config
    key = encoding_key(
        found.made["rewrite_paths"],
        [found.made["download"].digest],
        found.made["download_model"],
        FAMILIES["qwen2_5_omni"],
        config.media,
        dtype=config.dtype,
        split="sft",
    )
    rows = [{"tokens": {"text": 30, "image": 10}}] * (ROWS - 2)
    rows += [{"tokens": {"text": 5000}}, {"error": "a.png: broken"}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    found.store.save_work("encoded", key, "rows.jsonl", tmp_path / "rows.jsonl")

    after = of(found)["sft"]
    assert not after.estimated
    assert after.tokens
    assert after.tokens["by_modality"] == {"image": 380, "text": 1140}
    assert after.rows == ROWS - 2
    (said,) = after.findings
    assert said.startswith("2 of 40 rows are longer than max_length 1024 or cannot be encoded")


def test_what_is_not_made_yet_is_not_known_and_memory_is_that_of_the_longest(
    tmp_path: Path,
) -> None:
    plan = of(known(tmp_path, records=False))
    assert (plan["sft"].rows, plan["sft"].steps, plan["sft"].tokens) == (None, None, None)
    longer = of(known(tmp_path / "b", "sft.max_length=2048", records=False))
    assert plan["sft"].memory
    assert longer["sft"].memory
    assert longer["sft"].memory.logits == 2 * plan["sft"].memory.logits


def test_what_does_not_fit_is_said_with_what_would_help(tmp_path: Path) -> None:
    plan = of(known(tmp_path, gpu=1e6))
    (said,) = plan["sft"].findings
    assert said.startswith("does not fit: about ")
    assert "of a GPU that has 1.0 MB; set gradient_checkpointing, lower per_device_batch" in said
    assert not of(known(tmp_path / "b", gpu=1e12))["sft"].findings


def test_colocated_vllm_takes_its_share_of_the_gpu(tmp_path: Path) -> None:
    share = "grpo.vllm={gpu_memory_utilization: 0.4}"
    made = of(known(tmp_path, share, gpu=100e9))["grpo"]
    assert made.memory
    assert made.memory.cache == pytest.approx(40e9)


def test_settings_that_cannot_act_are_named(tmp_path: Path) -> None:
    plan = of(known(tmp_path, "grpo.epsilon_high=0.28"))
    assert any("epsilon and epsilon_high cannot act" in said for said in plan["grpo"].findings)


def test_fewer_records_than_a_step_takes_are_said(tmp_path: Path) -> None:
    plan = of(known(tmp_path, "grpo.batch_size=1024"))
    assert plan["grpo"].steps == 0
    assert any("40 records to train on, but" in said for said in plan["grpo"].findings)


def test_a_full_grpo_with_a_kl_term_holds_the_reference_beside_it(tmp_path: Path) -> None:
    plans = [
        of(known(tmp_path / beta, "grpo.tuner=full", f"grpo.beta={beta}"))["grpo"].memory
        for beta in ("0.0", "0.04")
    ]
    assert plans[0]
    assert plans[1]
    assert plans[1].weights == 2 * plans[0].weights


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_can_be_planned(name: str, tmp_path: Path) -> None:
    made_of = validate(read_recipe(shipped_recipes()[name]), Recipe)
    graph = graph_of(made_of)
    found = of(Known(made_of, graph, FolderStore(tmp_path), {}, MODEL, 80e9))
    assert list(found) == list(made_of.steps)
    assert all(made.memory and made.memory.peak > 0 for made in found.values())


def test_one_small_file_of_a_hub_repository_is_read_alone(hub: Server) -> None:
    config = orjson.dumps({"model_type": "qwen2_5_vl"})
    paths = add_repo(hub.served, {"config.json": config, "model.safetensors": b"x" * 5000})
    sources = [HubSource(type="hub", repo=REPO, repo_type="dataset")]
    assert peek(sources, "config.json", "model", 1 << 20) == config
    assert paths["model.safetensors"] not in hub.served.sent
    with pytest.raises(InputError, match="a small file is expected"):
        peek(sources, "model.safetensors", "model", 100)
    with pytest.raises(InputError, match=r"some-data: no file other\.json there"):
        peek(sources, "other.json", "model", 100)


def test_the_command_prints_the_plan_of_a_model_whose_configuration_alone_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(vl_config(128, 2)))
    source = f"model.sources=[{{type: folder, path: {model}}}]"
    command = ["plan", "tiny", "--home", str(tmp_path), "--set", source]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert said.startswith("Qwen2.5-VL, 0.01 billion parameters; in millions: ")
    assert "GB of a rank" in said
    assert cli.main([*command, "--gpu-memory", "0.001GB", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"]["embeddings"] == 128 * 30_000
    assert "does not fit" in found["steps"][0]["findings"][-1]


def test_without_a_configuration_the_plan_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.safetensors").write_text("x")
    source = f"model.sources=[{{type: folder, path: {tmp_path / 'model'}}}]"
    assert cli.main(["plan", "tiny", "--home", str(tmp_path), "--set", source]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the model is not known here, so neither memory nor checkpoints are told" in said
    assert "no file config.json there" in said


def test_a_size_of_a_gpu_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["plan", "tiny", "--gpu-memory", "eighty"])
    assert "a size such as 80GB or 24GiB is needed" in capsys.readouterr().err

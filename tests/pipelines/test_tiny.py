"""The whole pipeline through ``kfp.local``, with ms-swift really training a tiny Qwen2.5-Omni."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from omnistage.files import read_json, read_jsonl

pytestmark = [pytest.mark.pipeline, pytest.mark.usefixtures("warm")]
RECIPE = str(Path(__file__).parents[1] / "recipes" / "short.yaml")
STAGES = ["download", "download_model", "rewrite_paths", "sft", "grpo", "eval"]


@dataclass(frozen=True)
class Done:
    """A finished ``omnistage run``."""

    code: int
    output: str
    folder: Path
    """Of the run."""

    @property
    def finished(self) -> dict[str, dict[str, Any]]:
        """The last event of each stage that ended well."""
        rows = read_jsonl(self.folder / "events.jsonl")
        return {r["stage"]: r for r in rows if r["event"] == "finished"}

    @property
    def computed(self) -> list[str]:
        """The stages that were not taken from the store, in the pipeline's order."""
        finished = self.finished
        return [n for n in STAGES if n in finished and not finished[n]["cached"]]

    def artifact(self, stage: str) -> Path:
        """The folder of a stage's files."""
        return Path(self.finished[stage]["uri"].removeprefix("file://"))


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "omnistage", "run", RECIPE, "--home", str(home), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def latest(home: Path) -> Path:
    return max((home / "runs").iterdir(), key=lambda p: p.stat().st_ctime_ns)


def run(home: Path, *arguments: str) -> Done:
    process = start(home, *arguments)
    output, _ = process.communicate()
    return Done(process.returncode, output, latest(home))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def first(home: Path) -> Done:
    return run(home)


@pytest.fixture
def untrained(first: Done, home: Path, tmp_path: Path) -> Path:
    """A copy of the home without what was trained."""
    store = tmp_path / "store"
    shutil.copytree(home / "store", store, ignore=shutil.ignore_patterns("sft", "grpo", "eval"))
    return tmp_path


def test_every_stage_runs_and_the_last_line_is_the_reports_path(first: Done) -> None:
    assert first.code == 0, first.output
    assert first.computed == STAGES
    report = Path(first.output.splitlines()[-1])
    assert report == first.folder / "report.html"
    page = report.read_text()
    assert "<video" in page
    assert "<audio" in page
    assert "data:image/png" in page
    assert "http://" not in page.replace("http://www.w3.org/", "")


def test_the_training_really_trained(first: Done) -> None:
    logs = list(read_jsonl(first.artifact("sft") / "logs" / "logging.jsonl"))
    losses = [row["loss"] for row in logs if "loss" in row]
    assert len(losses) == 12
    assert losses[-1] < losses[0]
    assert (first.artifact("sft") / "model" / "model.safetensors").stat().st_size > 1_000_000
    assert (first.artifact("grpo") / "adapter" / "adapter_model.safetensors").exists()
    curve = list(read_jsonl(first.artifact("grpo") / "logs" / "logging.jsonl"))
    assert {"reward", "rewards/MMFormat/mean", "rewards/MMContent/mean"} <= set(curve[0])


def test_all_three_models_judged_every_pair_in_both_orders(first: Done) -> None:
    report = read_json(first.folder / "report.json")
    assert list(report["headline"]["models"]) == ["base", "sft", "grpo"]
    for name in report["headline"]["models"]:
        rows = list(read_jsonl(first.artifact("eval") / "judgements" / f"{name}.jsonl"))
        assert len(rows) == 12
        assert all({"first", "second"} <= set(row) for row in rows)


def test_the_same_pairs_are_judged_without_sound_and_by_text_alone(first: Done) -> None:
    """Given 12 records of three modalities: images lose nothing without sound."""
    judging = read_json(first.folder / "report.json")["tasks"]["judge"]
    found = judging["contribution"]
    assert {name: block["records"] for name, block in found.items()} == {
        "no_sound": sum(n for kind, n in judging["by_modality"].items() if kind != "image"),
        "text_only": 12,
    }
    assert not any(m["errors"] for block in found.values() for m in block["models"].values())


def test_kubeflow_has_the_report_and_the_metrics_too(first: Done) -> None:
    pages = list((first.folder / "kfp").glob("*/eval/html"))
    assert [p.read_text() for p in pages] == [(first.folder / "report.html").read_text()]


def test_a_second_run_computes_nothing_and_shows_the_same_report(first: Done, home: Path) -> None:
    second = run(home)
    assert second.code == 0, second.output
    assert second.computed == []
    assert (second.folder / "report.html").read_bytes() == (
        first.folder / "report.html"
    ).read_bytes()


def test_other_reward_weights_run_grpo_and_eval_only(first: Done, home: Path) -> None:
    changed = run(home, "--set", "grpo.reward_weights={mm_format: 1.0, mm_content: 2.0}")
    assert changed.code == 0, changed.output
    assert changed.computed == ["grpo", "eval"]


def test_a_flipped_byte_rebuilds_that_stage_alone(first: Done, home: Path) -> None:
    """Given a byte flipped in the records, they are made again; as they come out with the same
    digest as before, nothing after them runs."""
    records = first.artifact("rewrite_paths") / "sft.jsonl"
    data = bytearray(records.read_bytes())
    data[100] ^= 1
    records.write_bytes(data)
    again = run(home)
    assert again.code == 0, again.output
    assert again.computed == ["rewrite_paths"]
    warnings = [r["text"] for r in read_jsonl(again.folder / "events.jsonl") if "text" in r]
    assert any(str(records) in text for text in warnings)


def test_damaged_results_are_trained_again_and_come_out_the_same(first: Done, home: Path) -> None:
    """Given a byte flipped in what SFT and GRPO made, then both train again; the evaluation is
    found under its key, so that both came out with the same digests."""
    for stage, name in (
        ("sft", "model/model.safetensors"),
        ("grpo", "adapter/adapter_model.safetensors"),
    ):
        weights = first.artifact(stage) / name
        data = bytearray(weights.read_bytes())
        data[-5] ^= 1
        weights.write_bytes(data)
    again = run(home)
    assert again.code == 0, again.output
    assert again.computed == ["sft", "grpo"]


def test_from_a_stage_whose_inputs_are_not_there_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "--from", "sft")
    assert done.code == 2
    assert "download" in done.output.splitlines()[-1] or "download" in done.output


def test_killed_in_the_middle_of_sft_it_goes_on_from_the_last_checkpoint(
    untrained: Path, tmp_path: Path
) -> None:
    process = start(untrained, "--to", "sft")
    output = untrained / "store" / "sft"
    deadline = time.monotonic() + 600
    # Once the second checkpoint is begun, the first is whole.
    while time.monotonic() < deadline and not list(output.rglob("checkpoint-6")):
        assert process.poll() is None
        time.sleep(0.05)
    for folder in Path("/proc").glob("[0-9]*"):  # -9 to everything, grandchildren too
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if str(tmp_path).encode() in words:
            os.kill(int(folder.name), signal.SIGKILL)
    process.kill()
    process.communicate()
    done = run(untrained, "--to", "sft")
    assert done.code == 0, done.output
    assert done.computed == ["sft"]
    manifest = read_json(done.artifact("sft").parent / "manifest.json")
    assert manifest["metadata"]["resumed_from_step"] >= 3
    assert manifest["counts"]["steps"] == 12
    steps = [
        row["global_step/max_steps"]
        for row in read_jsonl(done.artifact("sft") / "logs" / "logging.jsonl")
        if "loss" in row
    ]
    assert {f"{n}/12" for n in range(1, 13)} <= set(steps)
    assert (done.artifact("sft") / "model" / "model.safetensors").exists()


def test_two_runs_at_once_on_a_fresh_store_make_the_same_records(
    first: Done, tmp_path: Path
) -> None:
    both = [start(tmp_path, "--to", "rewrite_paths") for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    third = run(tmp_path, "--to", "rewrite_paths")
    assert third.computed == []
    assert {n: r["key"] for n, r in third.finished.items()} == {
        n: first.finished[n]["key"] for n in third.finished
    }
    ours, theirs = (
        {p.name: p.read_bytes() for p in done.artifact("rewrite_paths").glob("*.jsonl")}
        for done in (third, first)
    )
    assert ours == theirs


def test_two_processes_train_as_one_does(first: Done, untrained: Path) -> None:
    done = run(untrained, "--to", "sft", "--set", "sft.nproc_per_node=2")
    assert done.code == 0, done.output

    def losses(run: Done) -> list[float]:
        log = run.artifact("sft") / "logs" / "logging.jsonl"
        return [row["loss"] for row in read_jsonl(log) if "loss" in row]

    assert losses(done)[0] == pytest.approx(losses(first)[0], rel=1e-3)


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    store = tmp_path / "small"
    store.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(store)]
    if subprocess.run(mount, capture_output=True).returncode:
        mount = []  # not allowed to mount here: a store that cannot be written says as much
        store.rmdir()
        store.write_text("")
    try:
        done = run(tmp_path, "--store", str(store), "--to", "download")
        assert done.code == 2, done.output
        assert ("disk" in done.output) or ("folder" in done.output)
        assert not list(store.glob("download/[0-9a-f]*")) if mount else True
    finally:
        if mount:
            subprocess.run(["umount", str(store)], check=True)

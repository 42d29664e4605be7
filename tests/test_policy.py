"""The policy of shared launchers: what recipes may ask for, and that launchers hold to it."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.download.config import DownloadSettings
from components.download.stage import STAGE as DOWNLOAD
from components.grpo.config import GRPOSettings
from components.sft.stage import STAGE as SFT
from omnistage import policy
from omnistage.cluster.settings import LaunchSettings
from omnistage.errors import InputError
from omnistage.policy import Policy, read_policy
from omnistage.settings import Settings
from omnistage.store.folder import FolderStore
from omnistage.store.uris import manifest_uri
from omnistage.task.program import main

REWARD = "def short(completions, **_):\n    return [1.0 for _ in completions]\n"
STRICT = {
    "trainer_arguments": ["neftune_noise_alpha", "lora*"],
    "own_rewards": False,
    "source_folders": ["/data"],
    "service_accounts": [],
    "claims": ["media-*"],
    "secrets": ["omnistage-store"],
    "env": ["NCCL_*"],
}


def refused(settings: Settings, **rules: Any) -> str:
    with pytest.raises(InputError) as e:
        Policy.model_validate({**STRICT, **rules}).check(settings.asks(), "here")
    return str(e.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"env": {"LD_PRELOAD": "/evil.so"}}, "here.env.LD_PRELOAD: the variable 'LD_PRELOAD'"),
        ({"service_account": "admin"}, "here.service_account: the service account 'admin'"),
        ({"store_secret": "other"}, "here.store_secret: the Secret 'other'"),
        ({"image_pull_secrets": ["theirs"]}, "the Secret 'theirs' is not allowed"),
        ({"volumes": [{"claim": "homes", "mount_path": "/h"}]}, "the claim 'homes'"),
    ],
)
def test_objects_and_variables_of_jobs_are_held_against_the_list(
    settings: dict[str, Any], said: str
) -> None:
    assert said in refused(LaunchSettings.model_validate(settings))


def test_what_is_listed_and_what_is_left_as_it_is_passes() -> None:
    volume = {"claim": "media-1", "mount_path": "/m"}
    settings = {"env": {"NCCL_DEBUG": "INFO"}, "volumes": [volume], "store_secret": "", "nodes": 2}
    Policy.model_validate(STRICT).check(LaunchSettings.model_validate(settings).asks(), "cluster")


@pytest.mark.parametrize(
    "name", ["external_plugins", "push_to_hub", "hub_model_id", "custom_register_path", "deepspeed"]
)
def test_arguments_of_the_trainer_are_held_against_the_list(name: str) -> None:
    for stage in (SFT.config, GRPOSettings):
        settings = stage.model_validate({"swift_arguments": {name: "x", "lora_bias": "none"}})
        said = refused(settings)
        assert said == (
            f"here.swift_arguments.{name}: the trainer's argument {name!r} is not allowed on this "
            "cluster (the chart's launch.policy.trainer_arguments); allowed: neftune_noise_alpha, "
            "lora*"
        )


def test_rewards_that_a_recipe_brings_are_code(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(REWARD)
    name = f"{tmp_path}/own.py:short"
    settings = GRPOSettings.model_validate({"reward_weights": {name: 1.0}})
    assert "a reward of your own" in refused(settings)
    Policy().check(settings.asks(), "grpo")


def test_folders_are_compared_without_links_and_dots(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to("/etc")
    rules = {"source_folders": [str(tmp_path / "data")]}

    def of(path: str) -> DownloadSettings:
        source = {"type": "folder", "path": str(tmp_path / path)}
        return DownloadSettings.model_validate({"sources": [source]})

    Policy.model_validate(rules).check(of("data/set").asks(), "data")
    for path in ("", "data/../other", "data/link", "database"):
        assert "here.sources.0.path: the folder" in refused(of(path), **rules)


def test_without_a_file_everything_is_allowed(tmp_path: Path) -> None:
    assert read_policy(tmp_path / "none") == Policy()


@pytest.mark.parametrize("text", ["claim: [x]", "[claims]", "claims: media", ": :"])
def test_a_policy_that_cannot_be_read_lets_nothing_run(tmp_path: Path, text: str) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(InputError):
        read_policy(tmp_path / "policy.yaml")


@pytest.fixture
def strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "policy.yaml").write_text(json.dumps(STRICT))
    monkeypatch.setattr(policy, "POLICY_FILE", tmp_path / "policy.yaml")
    return tmp_path


@pytest.mark.parametrize(
    ("stage", "config", "cluster", "said"),
    [
        (DOWNLOAD, {"sources": [{"type": "folder", "path": "/etc"}]}, {}, "the folder '/etc'"),
        (SFT, {"swift_arguments": {"external_plugins": ["x.py"]}}, {}, "'external_plugins'"),
        (SFT, {}, {"env": {"LD_PRELOAD": "x"}}, "cluster.env.LD_PRELOAD"),
    ],
)
def test_a_task_ends_before_it_reads_or_launches_anything(
    strict: Path,
    stage: Any,
    config: dict[str, Any],
    cluster: dict[str, Any],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runtime = {"cluster": {"image": "x@sha256:0", "settings": cluster}} if cluster else {}
    spec = {"config": config, "store": str(strict / "store"), "runtime": runtime}
    assert main(stage, ["--spec", json.dumps(spec)]) == 2
    assert said in capsys.readouterr().err
    assert not (strict / "store").exists()


def test_rewards_in_the_manifest_of_an_input_are_held_against_the_list(
    strict: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An evaluation runs the rewards that a model was trained with, as its manifest has them."""
    store = FolderStore(strict / "models")
    (out := store.work_folder("grpo", "0" * 32) / "out").mkdir()
    config = {"reward_code": {"own.py:short": REWARD}}
    made = store.commit(out, "LoRAAdapter", "grpo", "0" * 32, produced_by={"config": config})
    spec = {
        "config": {},
        "store": str(strict / "store"),
        "inputs": {"start": manifest_uri(made)},
    }
    assert main(SFT, ["--spec", json.dumps(spec)]) == 2
    assert "inputs.start: a reward of your own, 'own.py:short'" in capsys.readouterr().err

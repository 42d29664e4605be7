"""Each command runs in an environment full of secrets, and none is in what it writes or prints."""

import contextlib
from pathlib import Path

import pytest

from omnistage.cli import main as cli
from omnistage.cluster.gang import run_gang
from omnistage.errors import ErrorReport, InputError
from omnistage.events import Events
from omnistage.files import write_jsonl
from tests.cluster.scene import scene
from tests.cluster.scripted_cluster import Pod
from tests.components.download.download_kit import Server
from tests.kubeflow import kfp_api
from tests.pipelines.test_packages import PINNED
from tests.secrets.canaries import QUERY, SECRETS, leaks, written
from tests.store.store_kit import tiny_inputs

__all__ = ["scene"]
IMAGES = [word for name in PINNED for word in ("--image", f"{name}={PINNED[name]}")]
TRAINER = ["--image", f"trainer={PINNED['trainer']}"]
VOLUME = ["--set", "cluster.volumes=[{claim: disk, mount_path: /store}]"]
BUCKET = ["--store", "s3://bucket/store"]
SOURCE = "data.tiny.sources=[{{type: https, files: [{{url: '{}/bad.tar'}}]}}]"


@pytest.fixture
def folder(tmp_path: Path, served: Server, planted: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands run: a store with what the tiny recipe's sft needs."""
    served.served.files["/bad.tar"] = b"<html></html>"
    monkeypatch.setenv("OMNISTAGE_SIGNED_URLS", f"{served.url}/?{QUERY}")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.chdir(tmp_path)
    tiny_inputs(tmp_path)
    (tmp_path / "records").mkdir()
    write_jsonl(tmp_path / "records" / "sft.jsonl", [])
    return tmp_path


COMMANDS = {
    "run": ["run", "tiny", "--to", "download"],
    "run --dry-run": ["run", "tiny", "--dry-run"],
    "compile": ["compile", "tiny", "--out", "packages", *IMAGES, *BUCKET],
    "submit": ["submit", "tiny", "--no-follow", *IMAGES, *BUCKET],
    "inputs": ["inputs", "tiny", "sft", "--store", "store"],
    "launch --dry-run": ["launch", "tiny", "sft", "--dry-run", "--store", "store", *VOLUME],
    "launch": ["launch", "tiny", "sft", "--store", "store", *VOLUME],
    "doctor": ["doctor"],
    "doctor --cluster": ["doctor", "--cluster"],
    "show": ["show", "--all"],
    "eval": ["eval", "records", "--help"],
    "rewards": ["rewards", "list"],
    "recipes": ["recipes"],
    "verify": ["verify", "store/sft/0"],
    "prune": ["prune", "--store", "store"],
    "convert": ["convert", "records", "--to", "trl", "--out", "converted"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_tells_no_secret(
    folder: Path, served: Server, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    command = list(COMMANDS[name])
    if command[0] in ("run", "compile", "submit"):
        command += ["--set", SOURCE.format(served.url)]
    if command[0] == "launch":
        command += TRAINER
    with kfp_api.serve() as kubeflow:
        if command[0] == "submit":
            command += ["--endpoint", kubeflow.url]
        with contextlib.suppress(SystemExit):
            cli.main(command)
        assert leaks(str([kubeflow.runs, kubeflow.versions, kubeflow.requests])) == []
        assert bool(kubeflow.runs) == (command[0] == "submit")
    output = "".join(capfd.readouterr())
    assert output
    assert leaks(output) == []
    assert leaks(written(folder)) == []


TOKEN = "https://data.example/a.tar?a=b&token=canary-10"
SECRET_SOURCES = [
    TOKEN,
    "https://data.example/a.tar?X-Amz-Signature=canary-10",
    "https://data.example/a.tar?sv=1&sig=canary-10",
    "https://data.example/a.tar#access_token=canary-10",
    "https://canary-10@data.example/a.tar",
    "https://me:canary-10@data.example/a.tar",
]


@pytest.mark.parametrize(
    ("where", "url"),
    [*(("url", u) for u in SECRET_SOURCES), ("mirrors", TOKEN), ("param", TOKEN)],
)
def test_an_address_with_a_secret_is_refused_before_it_is_written_or_sent(
    folder: Path, where: str, url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = {"url": f"url: '{url}'", "mirrors": f"url: 'https://h/a', mirrors: ['{url}']"}
    if where == "param":
        command = ["submit", "tiny", *IMAGES, *BUCKET, "--param", f"data={url}"]
    else:
        source = f"data.tiny.sources=[{{type: https, files: [{{{file[where]}}}]}}]"
        command = ["compile", "tiny", "--out", "packages", *IMAGES, *BUCKET, "--set", source]
    assert cli.main(command) == 2
    output = "".join(capfd.readouterr())
    assert "environment variable OMNISTAGE_SIGNED_URLS" in output
    assert leaks(output) == []
    assert leaks(written(folder)) == []


@pytest.mark.usefixtures("planted")
def test_a_launcher_hands_on_what_pods_say_without_secrets(
    scene, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = [f"{name}={value}" for name, value in SECRETS.items()]
    report = ErrorReport("InputError", 2, f"no answer from {SECRETS['OMNISTAGE_REWARD_URL']}")
    here = scene(Pod(ends=14, code=2, report=report, lines=tuple(said)))
    with pytest.raises(InputError) as failed:
        run_gang(here.job(), here.cluster.api(), Events("sft", tmp_path / "events.jsonl"))
    output = "".join(capfd.readouterr())
    assert "AWS_SESSION_TOKEN=***" in output
    assert leaks(output + str(failed.value)) == []
    assert leaks(written(tmp_path)) == []
    assert leaks(str(here.cluster.jobs())) == []

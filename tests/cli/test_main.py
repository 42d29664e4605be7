"""The command line: what is refused before anything starts, what is handed to the run."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omnistage.cli import main as cli
from omnistage.files import read_json
from omnistage.store.folder import FolderStore
from omnistage.store.uris import uri_path

HERE = Path(__file__).parents[1] / "recipes"
RECIPE = str(HERE / "short.yaml")


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Any]], None]:
    """Makes the next runs do what a list says, see ``fake_child.py``; first, make a report."""
    monkeypatch.setattr(cli, "CHILD", "fake_child")
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.chdir(tmp_path)

    def set_play(steps: list[Any]) -> None:
        monkeypatch.setenv("PLAY", json.dumps(steps))

    report = {"models": {"base": {"accuracy": {"value": 0.75, "low": 0.5, "high": 0.9}}}}
    finished = {"key": "abc", "cached": True, "seconds": 0.1, "uri": "file:///x"}
    set_play(
        [
            ["event", "sft", "started", {"key": "abc"}],
            ["event", "sft", "finished", finished],
            ["write", "report.html", "<html>"],
            ["write", "report.json", json.dumps(report)],
        ]
    )
    return set_play


def runs(home: Path) -> list[Path]:
    return sorted((home / "runs").glob("*"))


def test_run_hands_the_validated_recipe_to_a_child_and_ends_with_the_report(
    play: Callable[[list[Any]], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--set", "seed=7", "--from", "sft", "--force", "eval", "--home", "h"]
    assert cli.main(["run", RECIPE, *arguments]) == 0
    (folder,) = runs(tmp_path / "h")
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == str(folder / "report.html")
    assert out[0] == "sft: started, key abc"
    request = read_json(folder / "run.json")
    assert request["recipe"]["seed"] == 7
    assert request["recipe"]["steps"]["sft"]["learning_rate"] == 1e-3
    assert (request["from"], request["to"], request["force"]) == ("sft", None, ["eval"])
    assert request["store"] == (tmp_path / "h" / "store").as_uri()
    assert request["events"] == str(folder / "events.jsonl")


def test_a_failed_run_gives_the_exit_code_of_its_stage(
    play: Callable[[list[Any]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failed = {"message": "no such clip", "exit_code": 2}
    play([["event", "sft", "failed", failed], ["exit", 2]])
    assert cli.main(["run", RECIPE]) == 2
    assert capsys.readouterr().err.startswith("omnistage: error: sft: no such clip\nlog: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "sft.learnin_rate=1"], "did you mean 'learning_rate'?"),
        (["--set", "sft.learning_rate=-1"], "-1 is out of range: allowed is > 0"),
        (["--set", "pipeline=post"], "--set pipeline: 'post' is not one of 'post_training'"),
        (["--from", "stf"], "--from stf: no such step; did you mean 'sft'?"),
        (["--to", "qqq"], "--to qqq: no such step; steps are download, download_model, rewrite"),
        (["--force", "evel"], "--force evel: no such step; did you mean 'eval'?"),
        (["--from", "eval", "--to", "sft"], "--from eval: sft does not need it, so it is not run"),
        (["--store", "ftp://x/y"], "expected a folder, file:// or s3://"),
    ],
)
def test_what_is_wrong_is_refused_before_a_run_is_made(
    play: Callable[[list[Any]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    assert cli.main(["run", RECIPE, *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("omnistage: error: ")
    assert said in err
    assert not (tmp_path / ".omnistage").exists()


def test_a_recipe_without_a_pipeline_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.yaml"
    path.write_text("name: x\n")
    assert cli.main(["run", str(path)]) == 2
    assert "other.yaml: pipeline: missing (The pipeline that is run)" in capsys.readouterr().err


def test_a_dry_run_says_what_would_run_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    arguments = ["--store", "attic", "--to", "rewrite_paths", "--force", "download"]
    assert cli.main(["run", RECIPE, "--dry-run", *arguments]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    key = rows[1].pop(2)
    assert len(key) == 12
    assert [" ".join(row) for row in rows[1:]] == [
        "download run --force",
        "rewrite_paths not known yet depends on what download will make",
    ]
    assert not (tmp_path / ".omnistage").exists()


def test_two_runs_at_once_have_folders_of_their_own(
    play: Callable[[list[Any]], None], tmp_path: Path
) -> None:
    play([["sleep", 1]])
    program = (
        "import sys; from omnistage.cli import main as cli;"
        "cli.CHILD = 'fake_child'; sys.exit(cli.main(sys.argv[1:]))"
    )
    both = [subprocess.Popen([sys.executable, "-c", program, "run", RECIPE]) for _ in range(2)]
    assert [p.wait(60) for p in both] == [0, 0]
    assert len(runs(tmp_path / ".omnistage")) == 2


def test_compile_refuses_an_image_without_a_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["compile", RECIPE, "--image", "nothing"]) == 2
    assert "--image nothing: expected name=reference" in capsys.readouterr().err


def test_help_imports_nothing_that_is_slow() -> None:
    program = (
        "import sys; from omnistage.cli import main as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'kfp', 'torch', 'pydantic', 'rich', 'yaml', 'boto3'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert out.startswith("usage: omnistage")
    assert out.splitlines()[-1] == "[]"


def test_an_unknown_command_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as e:
        cli.main(["rum"])
    assert e.value.code == 2


def test_verify_names_the_damaged_file_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, made = FolderStore(tmp_path / "store"), tmp_path / "made"
    made.mkdir()
    (made / "a.txt").write_text("good")
    uri = store.commit(made, "BaseModel", "download_model", "k1").uri
    assert cli.main(["verify", uri]) == 0
    assert capsys.readouterr().out == f"{uri}: whole\n"
    (uri_path(uri) / "a.txt").write_text("evil")
    for said in (uri, uri.removesuffix("/content")):
        assert cli.main(["verify", said]) == 1
        assert f"{said}: a.txt: its bytes changed" in capsys.readouterr().err


def test_verify_of_nothing_is_refused(tmp_path: Path) -> None:
    assert cli.main(["verify", str(tmp_path)]) == 2


def test_convert_takes_every_format_there_is_and_says_what_it_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from omnistage.records import convert

    assert cli.FORMATS == convert.FORMATS
    record = {
        "id": "a:1",
        "source": "a",
        "task": "choice",
        "messages": [{"role": "user", "content": "<image>which?"}],
        "images": ["x/1.png"],
        "solution": "B",
    }
    (tmp_path / "rl.jsonl").write_text(json.dumps(record) + "\n")
    (tmp_path / "sft.jsonl").touch()
    (tmp_path / "test.jsonl").touch()
    arguments = ["--to", "ms_swift", "--out", str(tmp_path / "out"), "--media-root", "/data"]
    assert cli.main(["convert", str(tmp_path), *arguments]) == 0
    assert capsys.readouterr().out == "rl: 1 record\n"
    (row,) = map(json.loads, (tmp_path / "out" / "rl.jsonl").open())
    assert row["images"] == ["/data/x/1.png"]
    assert cli.main(["convert", str(tmp_path / "none"), *arguments]) == 2

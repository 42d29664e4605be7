"""``omnistage show`` says what a run did, also while it goes on and after it was killed."""

import json
from pathlib import Path
from typing import Any

import pytest

from omnistage.cli.main import main
from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.files import read_json, write_json
from omnistage.runs.folder import acquire_run_lock, finish, new_run

STAGES = ["download", "sft", "eval"]
KEY = "0123456789abcdef0123456789abcdef"


def make_run(home: Path, started: float = 1000.0) -> Path:
    """A run that downloaded, found sft in the store, and has not begun with eval."""
    folder = new_run(home, "tiny", {"recipe": {"name": "tiny"}, "store": "file:///s"}, STAGES)
    write_json(folder / "state.json", {**read_json(folder / "state.json"), "started": started})
    for stage, cached in (("download", False), ("sft", True)):
        events = Events(stage, folder / "events.jsonl", echo=False)
        events.emit("started", key=KEY)
        uri = f"file:///s/{stage}/{KEY}/content"
        events.emit("finished", key=KEY, cached=cached, seconds=65.0, uri=uri)
    return folder


def show_json(capsys: pytest.CaptureFixture[str], home: Path, *arguments: str) -> Any:
    assert main(["show", "--home", str(home), "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_names_stages_keys_cached_or_run_durations_and_artifacts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path)
    (folder / "report.html").write_text("<html>")
    finish(folder, 0)
    shown = show_json(capsys, tmp_path)
    assert (shown["run"], shown["state"], shown["recipe"]) == (folder.name, "done", "tiny")
    assert shown["report"] == str(folder / "report.html")
    assert (shown["error"], shown["warnings"]) == (None, [])
    assert shown["stages"] == [
        {
            "stage": stage,
            "state": state,
            "key": key,
            "cached": cached,
            "seconds": seconds,
            "uri": uri,
            "error": None,
            "warnings": [],
        }
        for stage, state, key, cached, seconds, uri in (
            ("download", "done", KEY, False, 65.0, f"file:///s/download/{KEY}/content"),
            ("sft", "cached", KEY, True, 65.0, f"file:///s/sft/{KEY}/content"),
            ("eval", "waiting", None, None, None, None),
        )
    ]


def test_the_table_shows_the_same_to_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path)
    Events("eval", folder / "events.jsonl", echo=False).warn("odd [x]")
    finish(folder, 0)
    assert main(["show", "--home", str(tmp_path), folder.name]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["download", "done", KEY[:12], "1:05"] in rows
    assert ["sft", "cached", KEY[:12], "1:05"] in rows
    assert ["eval", "waiting"] in rows
    assert f"download: file:///s/download/{KEY}/content" in out.splitlines()
    assert "eval: warning: odd [x]" in out
    assert f"log: {folder / 'log.txt'}" in out


def test_a_run_is_running_while_its_lock_is_held_and_killed_after(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path)
    Events("eval", folder / "events.jsonl", echo=False).emit("started", key=KEY)
    with acquire_run_lock(folder):
        shown = show_json(capsys, tmp_path)
        assert (shown["state"], shown["stages"][2]["state"]) == ("running", "running")
    shown = show_json(capsys, tmp_path)
    assert (shown["state"], shown["stages"][2]["state"]) == ("killed", "stopped")


@pytest.mark.parametrize(("code", "state"), [(0, "done"), (1, "failed"), (2, "failed")])
def test_an_ended_run_says_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int, state: str
) -> None:
    finish(make_run(tmp_path), code)
    shown = show_json(capsys, tmp_path)
    assert (shown["state"], shown["exit_code"]) == (state, code)


def test_without_a_name_the_latest_run_is_shown_and_all_lists_them_latest_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, old = make_run(tmp_path, started=2000.0), make_run(tmp_path, started=1000.0)
    finish(new, 0)
    finish(old, 1)
    assert show_json(capsys, tmp_path)["run"] == new.name
    assert [r["run"] for r in show_json(capsys, tmp_path, "--all")] == [new.name, old.name]
    assert main(["show", "--home", str(tmp_path), "--all"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1][:2] == [new.name, "done"]
    assert rows[2][:2] == [old.name, "failed"]
    assert rows[1][2:7] == ["ran", "download,", "1", "cached", rows[1][6]]


def test_a_run_is_found_by_name_by_a_part_of_it_and_by_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path)
    for name in (folder.name, folder.name[4:12], str(folder)):
        assert show_json(capsys, tmp_path, name)["run"] == folder.name


def test_no_run_an_unknown_and_an_ambiguous_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "--home", str(tmp_path)]) == 2
    assert "no run yet" in capsys.readouterr().err
    runs = [make_run(tmp_path).name for _ in range(2)]
    assert main(["show", "--home", str(tmp_path), "nonsense"]) == 2
    assert "found none" in capsys.readouterr().err
    assert main(["show", "--home", str(tmp_path), "tiny"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in runs)


def test_runs_begun_in_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    folders = {make_run(tmp_path) for _ in range(5)}
    assert len(folders) == 5
    assert all((folder / "run.json").is_file() for folder in folders)


def test_a_home_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    home = tmp_path / "file"
    home.write_text("")
    with pytest.raises(InputError, match="file/runs: not a folder"):
        new_run(home, "tiny", {}, STAGES)

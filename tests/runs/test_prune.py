"""``omnistage prune`` removes what no kept run needs, and nothing that is held."""

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from omnistage.cli import main as cli
from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.runs.folder import acquire_run_lock, finish, new_run
from omnistage.runs.prune.prune import remove, unneeded
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Manifest
from omnistage.store.uris import manifest_uri
from omnistage.task.run_record import RunRecord


class Place:
    """A home with runs of two stages each, ``download`` and ``sft``, of a number's own."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.store = FolderStore(self.home / "store")

    def artifact(self, stage: str, number: int, **inputs: Manifest) -> Manifest:
        key = f"{number:032x}"
        out = self.store.work_folder(stage, key) / "out"
        out.mkdir(parents=True, exist_ok=True)
        (out / "f").write_bytes(os.urandom(5000 * number))
        made = {n: {"key": m.key, "uri": m.uri} for n, m in inputs.items()}
        kind: Any = "DatasetTarball" if stage == "download" else "SFTCheckpoint"
        return self.store.commit(out, kind, stage, key, produced_by={"inputs": made})

    def run(self, number: int, *, name_upstream: bool = True) -> Path:
        data = self.artifact("download", number)
        model = self.artifact("sft", number, data=data)
        folder = new_run(self.home, f"r{number}", {"recipe": {"name": "r"}}, ["download", "sft"])
        for made in (data, model) if name_upstream else (model,):
            events = Events(made.stage, folder / "events.jsonl", echo=False)
            events.emit("started", key=made.key)
            fields = {"uri": made.uri, "manifest": manifest_uri(made), "seconds": 1.0}
            events.emit("finished", key=made.key, cached=False, **fields)
        finish(folder, 0)
        return folder

    def listed(self, keep: int = 1) -> set[tuple[str, str]]:
        found = unneeded(self.home, self.store.uri, keep)
        return {(item.what, str(Path(item.place).relative_to(self.home))) for item in found}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def key(number: int) -> str:
    return f"{number:032x}"


def test_what_only_older_runs_refer_to_is_not_needed(place: Place) -> None:
    old, _ = place.run(1), place.run(2)
    assert place.listed(keep=2) == {
        ("work", f"store/{stage}/.{key(n)}.work") for stage in ("download", "sft") for n in (1, 2)
    }
    assert {what for what in place.listed() if what[0] != "work"} == {
        ("run", f"runs/{old.name}"),
        ("artifact", f"store/download/{key(1)}"),
        ("artifact", f"store/sft/{key(1)}"),
    }


def test_what_an_artifact_was_made_from_is_kept_with_it(place: Place) -> None:
    place.run(1)
    place.run(2, name_upstream=False)
    assert ("artifact", f"store/download/{key(2)}") not in place.listed()


def test_what_a_run_of_a_cluster_refers_to_is_kept(place: Place) -> None:
    made = place.artifact("sft", 7)
    assert ("artifact", f"store/sft/{key(7)}") in place.listed()
    RunRecord(place.store.uri, "run-1").note("sft", "done", manifest=manifest_uri(made))
    assert ("artifact", f"store/sft/{key(7)}") not in place.listed()


def test_with_a_damaged_record_nothing_is_listed(place: Place) -> None:
    (place.home / "store/runs/run-1").mkdir(parents=True)
    (place.home / "store/runs/run-1/sft.json").write_text('{"manifest": "file:///sto')
    with pytest.raises(InputError, match=r"run-1/sft\.json: a damaged record"):
        place.listed()


def test_a_run_at_work_is_kept_with_its_half_made_work_and_all_scratch(place: Place) -> None:
    running = new_run(place.home, "now", {"recipe": {"name": "r"}}, ["sft"])
    Events("sft", running / "events.jsonl", echo=False).emit("started", key=key(9))
    place.store.work_folder("sft", key(9))
    (place.home / "store/.scratch/media/0123").mkdir(parents=True)
    place.run(2)
    with acquire_run_lock(running):
        assert {where for _, where in place.listed()} <= {
            f"store/{stage}/.{key(2)}.work" for stage in ("download", "sft")
        }
    assert ("run", f"runs/{running.name}") in place.listed()
    assert ("work", f"store/sft/.{key(9)}.work") in place.listed()
    assert ("scratch", "store/.scratch/media/0123") in place.listed()


def test_what_is_left_of_killed_processes_is_listed(place: Place) -> None:
    place.run(1)
    left = place.home / f"store/sft/.{key(1)}.discarded.12ab34cd"
    left.mkdir()
    assert ("work", str(left.relative_to(place.home))) in place.listed()


def test_the_largest_comes_first(place: Place) -> None:
    for number in (1, 3, 2):
        place.artifact("sft", number)
    place.run(4)
    sizes = [item.size for item in unneeded(place.home, place.store.uri, 1)]
    assert sizes == sorted(sizes, reverse=True)


def test_removal_leaves_what_a_process_holds(place: Place) -> None:
    for number in (1, 2):
        place.artifact("sft", number)
    place.run(3)
    found = unneeded(place.home, place.store.uri, 1)
    with place.store.lock("sft", key(1)):
        left = remove(found)
    assert {Path(item.place).name for item in left} == {key(1), f".{key(1)}.work"}
    assert (place.home / f"store/sft/{key(1)}/done").is_file()
    assert not (place.home / f"store/sft/{key(2)}").exists()


def test_scratch_that_a_process_reads_is_left(place: Place) -> None:
    media = place.home / "store/.scratch/media/0123"
    media.mkdir(parents=True)
    (media / "clip").write_bytes(b"x")
    place.run(1)
    with (media / "clip").open():
        remove(unneeded(place.home, place.store.uri, 1))
        assert media.exists()
    remove(unneeded(place.home, place.store.uri, 1))
    assert not media.exists()


def test_the_command_lists_and_removes_only_when_told(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = place.run(1), place.run(2)
    home = ["--home", str(place.home)]
    assert cli.main(["prune", "--keep", "1", *home]) == 0
    assert old.name in capsys.readouterr().out
    assert old.exists()
    assert cli.main(["prune", "--keep", "1", "--delete", *home]) == 0
    assert not old.exists()
    assert new.exists()
    assert place.store.find("sft", key(2))
    assert place.store.find("sft", key(1)) is None
    assert place.listed() == set()


def test_runs_since_a_date_are_kept(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    old, _ = place.run(1), place.run(2)
    command = ["prune", "--keep", "1", "--home", str(place.home), "--since"]
    assert cli.main([*command, "2020-01-01"]) == 0
    assert old.name not in capsys.readouterr().out
    assert cli.main([*command, "last week"]) == 2
    assert "expected a date" in capsys.readouterr().err


def test_locks_of_runs_are_not_left_held(place: Place) -> None:
    old, _ = place.run(1), place.run(2)
    acquire_run_lock(old).close()
    remove(unneeded(place.home, place.store.uri, 1))
    with acquire_run_lock(place.run(3)) as lock:
        fcntl.flock(lock, fcntl.LOCK_UN)
    assert not old.exists()

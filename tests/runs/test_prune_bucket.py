"""``omnistage prune`` of a store in a bucket: as of one in a folder, and what is recent stays."""

from pathlib import Path
from typing import Any

import pytest

from omnistage.cli import main as cli
from omnistage.events import Events
from omnistage.runs.folder import acquire_run_lock, finish, new_run
from omnistage.runs.prune import bucket as pruned
from omnistage.runs.prune.prune import remove, unneeded
from omnistage.store import objects
from omnistage.store.manifest import Manifest
from omnistage.store.s3 import S3Store
from omnistage.store.uris import manifest_uri
from omnistage.task.run_record import SUMMARY, RunRecord


def key(number: int) -> str:
    return f"{number:032x}"


class Place:
    """A bucket with runs of two stages each, ``download`` and ``sft``, of a number's own."""

    def __init__(self, folder: Path, bucket: str) -> None:
        self.home = folder / "home"
        self.store = S3Store(f"s3://{bucket}/{folder.name}/store")

    def artifact(self, stage: str, number: int, **inputs: Manifest) -> Manifest:
        out = self.store.work_folder(stage, key(number)) / "out"
        (out / "sub").mkdir(parents=True)
        (out / "sub/f").write_bytes(b"x" * 100 * number)
        made = {n: {"key": m.key, "uri": m.uri} for n, m in inputs.items()}
        kind: Any = "DatasetTarball" if stage == "download" else "SFTCheckpoint"
        commit = self.store.commit(out, kind, stage, key(number), produced_by={"inputs": made})
        out.parent.rmdir()
        return commit

    def run(self, number: int) -> Path:
        model = self.artifact("sft", number, data=self.artifact("download", number))
        folder = new_run(self.home, f"r{number}", {"recipe": {"name": "r"}}, ["download", "sft"])
        events = Events("train", folder / "events.jsonl", echo=False)
        events.emit("started", key=model.key)
        fields = {"uri": model.uri, "manifest": manifest_uri(model), "seconds": 1.0}
        events.emit("finished", key=model.key, cached=False, **fields)
        finish(folder, 0)
        return folder

    def upload(self, name: str) -> str:
        objects.write(f"{self.store.uri}/{name}", b"x" * 10)
        return name

    def listed(self, keep: int = 1) -> set[tuple[str, str]]:
        found = unneeded(self.home, self.store.uri, keep)
        prefix = f"{self.store.uri}/"
        return {(item.what, item.place.removeprefix(prefix)) for item in found}

    def names(self) -> set[str]:
        return {
            o.uri.removeprefix(f"{self.store.uri}/") for o in objects.list_below(self.store.uri)
        }


@pytest.fixture
def place(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Nothing in the bucket counts as recent, but where a test says so."""
    monkeypatch.setenv("OMNISTAGE_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(pruned, "_IDLE_SECONDS", -60.0)
    return Place(tmp_path, bucket)


def test_what_only_older_runs_refer_to_is_not_needed(place: Place) -> None:
    old, _ = place.run(1), place.run(2)
    assert place.listed(keep=2) == set()
    assert place.listed() == {
        ("run", str(old)),
        ("artifact", f"download/{key(1)}/"),
        ("artifact", f"sft/{key(1)}/"),
    }


def test_what_is_removed_is_gone_and_the_rest_is_whole(place: Place) -> None:
    for number in (1, 2):
        place.run(number)
    assert remove(unneeded(place.home, place.store.uri, 1)) == []
    assert place.listed() == set()
    assert {name.split("/")[1] for name in place.names()} == {key(2)}
    assert place.store.find("sft", key(1)) is None
    assert place.store.find("sft", key(2))
    assert place.store.find("download", key(2))


def test_what_killed_commits_and_trainings_left_is_listed(place: Place) -> None:
    place.run(1)
    left = {
        place.upload(f"sft/{key(1)}/content/other/sub/f"),
        place.upload(f"sft/{key(7)}/content/other/f"),
        place.upload(f"sft/.{key(1)}.saved/checkpoint-3/model.safetensors"),
    }
    place.upload("notes/by/hand.txt")
    assert place.listed() == {
        ("work", f"sft/{key(1)}/content/other/"),
        ("work", f"sft/{key(7)}/content/other/"),
        ("work", f"sft/.{key(1)}.saved/"),
    }
    remove(unneeded(place.home, place.store.uri, 1))
    assert place.names().isdisjoint(left)
    assert "notes/by/hand.txt" in place.names()
    assert place.store.find("sft", key(1))


def test_an_artifact_without_attempts_of_its_own_is_kept_whole(place: Place) -> None:
    """As a store was laid out that was copied from a folder."""
    made = place.artifact("sft", 3)
    for found in list(objects.list_below(f"{made.uri}/")):
        name = found.uri.removeprefix(f"{made.uri}/")
        objects.write(
            f"{place.store.uri}/sft/{key(3)}/content/{name}", objects.read(found.uri) or b""
        )
        objects.delete([found.uri])
    moved = made.model_copy(update={"uri": f"{place.store.uri}/sft/{key(3)}/content"})
    objects.write(manifest_uri(made), moved.to_json())
    RunRecord(place.store.uri, "run-1").note("sft", "done", manifest=manifest_uri(made))
    assert place.listed() == set()


def test_what_a_run_of_a_cluster_refers_to_is_kept_while_it_is_at_work(place: Place) -> None:
    made = place.artifact("sft", 7)
    assert place.listed() == {("artifact", f"sft/{key(7)}/")}
    RunRecord(place.store.uri, "run-1").note("sft", "done", manifest=manifest_uri(made))
    later = RunRecord(place.store.uri, "run-2")
    later.write(SUMMARY, {"run": "run-2"})
    assert place.listed() == set()  # run-1 has no summary: it may be at work
    RunRecord(place.store.uri, "run-1").write(SUMMARY, {"run": "run-1"})
    later.write(SUMMARY, {"run": "run-2"})
    assert place.listed(keep=2) == set()


def test_what_was_written_within_the_last_day_is_shown_and_left(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place.artifact("sft", 1)
    place.upload(f"sft/.{key(1)}.saved/checkpoint-3/x")
    found = unneeded(place.home, place.store.uri, 1)
    monkeypatch.setattr(pruned, "_IDLE_SECONDS", 86400.0)
    assert remove(found) == found  # written to since it was listed, as it were
    command = ["prune", "--home", str(place.home), "--store", place.store.uri]
    assert cli.main([*command, "--delete"]) == 0
    assert capsys.readouterr().out.count("written to within the last day, left") == 2
    assert len(place.names()) == 3


def test_what_this_machine_is_at_work_on_is_left(place: Place) -> None:
    place.artifact("sft", 1)
    found = unneeded(place.home, place.store.uri, 1)
    with place.store.lock("sft", key(1)):
        assert remove(found) == found
    assert place.store.find("sft", key(1))
    assert remove(found) == []


def test_what_was_made_anew_since_it_was_listed_is_left(place: Place) -> None:
    place.artifact("sft", 1)
    found = unneeded(place.home, place.store.uri, 1)
    place.store.discard("sft", key(1))
    (again := place.store.work_folder("sft", key(1)) / "out").mkdir()
    (again / "f").write_bytes(b"other bytes")
    made = place.store.commit(again, "SFTCheckpoint", "sft", key(1))
    assert remove(found) == found
    assert place.store.find("sft", key(1)) == made


def test_files_that_a_manifest_names_by_now_are_left(place: Place) -> None:
    made = place.artifact("sft", 1)
    text = objects.read(manifest_uri(made)) or b""
    objects.delete([manifest_uri(made)])
    found = unneeded(place.home, place.store.uri, 1)
    assert {item.what for item in found} == {"work"}
    objects.write(manifest_uri(made), text)  # the commit was not killed
    assert remove(found) == found
    assert place.store.find("sft", key(1)) == made


def test_fetched_copies_go_when_nobody_of_this_machine_is_at_work(place: Place) -> None:
    old, new = place.artifact("download", 1), None
    fetched = place.store.local(old)
    place.run(2)
    new = place.store.find("sft", key(2))
    assert new
    kept = place.store.local(new)
    half_made = place.store.work_folder("sft", key(9))
    scratch = {("scratch", str(fetched)), ("work", str(half_made))}
    assert place.listed() >= scratch
    with place.store.lock("grpo", key(8)):
        assert place.listed().isdisjoint(scratch)
    with acquire_run_lock(new_run(place.home, "now", {"recipe": {"name": "r"}}, ["sft"])):
        assert place.listed(keep=2).isdisjoint(scratch)
    remove(unneeded(place.home, place.store.uri, 2))
    assert not fetched.exists()
    assert not half_made.exists()
    assert kept.is_dir()


def test_half_made_work_of_a_kept_run_stays(place: Place) -> None:
    folder = new_run(place.home, "stopped", {"recipe": {"name": "r"}}, ["sft"])
    Events("sft", folder / "events.jsonl", echo=False).emit("started", key=key(9))
    finish(folder, 130)
    place.store.work_folder("sft", key(9))
    place.upload(f"sft/.{key(9)}.saved/checkpoint-3/x")
    place.upload(f"sft/{key(9)}/content/attempt/f")
    assert place.listed() == set()

"""The media root: every path of the index is a file, made once, whole or not at all."""

import errno
import hashlib
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import orjson
import pytest

from components.download.config import DownloadSettings
from components.download.stage import STAGE
from omnistage.archives import media_root as materialize
from omnistage.archives.media_root import media_root
from omnistage.errors import InputError
from omnistage.events import Events
from omnistage.files import read_jsonl
from omnistage.stage.execute import execute
from omnistage.store.folder import FolderStore
from omnistage.store.uris import manifest_uri, uri_path
from omnistage.store.verify import verify
from tests.archives.test_reader import PACKINGS, zip_bytes
from tests.components.download.download_kit import png, wav

FILES = {f"deep/{n}/file{n}.bin": bytes([n]) * (n * 700) for n in range(40)} | {"empty": b""}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A data set with an archive of every packing, a split one, and loose media."""
    home = tmp_path_factory.mktemp("dataset")
    source = home / "source"
    (source / "loose").mkdir(parents=True)
    for number, (packing, pack) in enumerate(PACKINGS.items()):
        suffix = packing.rpartition(" ")[2]
        (source / f"pack{number}.{suffix}").write_bytes(pack(FILES))
    split = zip_bytes(FILES, zipfile.ZIP_STORED)
    (source / "split.zip.001").write_bytes(split[:10_000])
    (source / "split.zip.002").write_bytes(split[10_000:])
    for name, data in FILES.items():
        (home / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "in" / name).write_bytes(data)
    spanned = source / "spanned.zip"
    subprocess.run(["zip", "-0qrs", "64k", spanned, "."], cwd=home / "in", check=True)
    (source / "loose" / "x.wav").write_bytes(wav())
    (source / "loose" / "y.png").write_bytes(png())
    values = {
        "sources": [{"type": "folder", "path": str(source)}],
        "transfer": {"processes": 2},
    }
    outcome = execute(
        STAGE, DownloadSettings.model_validate(values), {}, FolderStore(home / "store")
    )
    return outcome.manifest


def rewritten(dataset, tmp_path: Path, change) -> Path:
    """Copy the data set, with ``change`` made to each row of its index."""
    copy = tmp_path / "copy"
    shutil.copytree(uri_path(dataset.uri), copy)
    rows = [change(dict(row)) for row in read_jsonl(copy / "index.jsonl")]
    (copy / "index.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return copy


def test_every_path_of_the_index_has_its_bytes(dataset, tmp_path):
    folder = uri_path(dataset.uri)
    root = media_root(folder, dataset.digest, tmp_path)
    rows = list(read_jsonl(folder / "index.jsonl"))
    assert len(rows) == (len(PACKINGS) + 2) * len(FILES) + 2
    for row in rows:
        assert hashlib.sha256((root / row["path"]).read_bytes()).hexdigest() == row["sha256"]
    there = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    assert there == {row["path"] for row in rows}


def test_the_second_call_extracts_nothing(dataset, tmp_path, monkeypatch):
    folder = uri_path(dataset.uri)
    root = media_root(folder, dataset.digest, tmp_path)
    monkeypatch.setattr(materialize, "_extract_all", lambda *_: pytest.fail("extracted again"))
    assert media_root(folder, dataset.digest, tmp_path) == root


def wait_until_flushed():
    for thread in threading.enumerate():
        if thread.name.startswith("flush "):
            thread.join()


def test_what_is_not_yet_on_the_disk_is_used_in_the_same_boot_only(dataset, tmp_path, monkeypatch):
    folder = uri_path(dataset.uri)
    monkeypatch.setattr(materialize, "_flush", lambda *_: None)
    root = media_root(folder, dataset.digest, tmp_path)
    (root / "mark").touch()
    assert (media_root(folder, dataset.digest, tmp_path) / "mark").exists()
    monkeypatch.setattr(materialize, "boot_id", lambda: "after a power cut")
    assert not (media_root(folder, dataset.digest, tmp_path) / "mark").exists()


def test_what_is_on_the_disk_is_used_after_a_restart(dataset, tmp_path, monkeypatch):
    folder = uri_path(dataset.uri)
    root = media_root(folder, dataset.digest, tmp_path)
    wait_until_flushed()
    (root / "mark").touch()
    monkeypatch.setattr(materialize, "boot_id", lambda: "after a restart")
    assert (media_root(folder, dataset.digest, tmp_path) / "mark").exists()


def test_a_flush_that_fails_is_said_and_the_files_are_not_trusted(dataset, tmp_path, monkeypatch):
    def fail(folder):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(materialize, "_sync", fail)
    folder = uri_path(dataset.uri)
    events = Events("sft", tmp_path / "events.jsonl", echo=False)
    media_root(folder, dataset.digest, tmp_path, events)
    wait_until_flushed()
    assert "could not be flushed to the disk" in (tmp_path / "events.jsonl").read_text()
    monkeypatch.setattr(materialize, "boot_id", lambda: "after a power cut")
    monkeypatch.setattr(materialize, "_extract_all", lambda *_: pytest.fail("extracted again"))
    with pytest.raises(pytest.fail.Exception, match="extracted again"):
        media_root(folder, dataset.digest, tmp_path)


def test_where_no_boot_can_be_told_the_files_are_on_the_disk_first(dataset, tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(materialize, "boot_id", lambda: "")
    monkeypatch.setattr(materialize, "_sync", lambda path: synced.append(path.suffix))
    media_root(uri_path(dataset.uri), dataset.digest, tmp_path)
    assert synced == [".part"]


def test_what_a_killed_extraction_left_is_removed(dataset, tmp_path):
    name = dataset.digest.removeprefix("sha256:")[:32]
    left = tmp_path / "media" / f"{name}.part" / "half"
    left.mkdir(parents=True)
    root = media_root(uri_path(dataset.uri), dataset.digest, tmp_path)
    assert not (root / "half").exists()
    assert not left.exists()


def test_several_processes_share_one_extraction(dataset, tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from omnistage.archives.media_root import media_root\n"
        "root = media_root(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))\n"
        "print(root.stat().st_ino)"
    )
    command = [sys.executable, "-c", code, str(uri_path(dataset.uri)), dataset.digest]
    processes = [
        subprocess.Popen([*command, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    inodes = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(inodes) == 1


@pytest.mark.parametrize("member", [True, False])
@pytest.mark.parametrize("path", ["../evil", "/tmp/evil", "a/../../evil", "..", "", "a\0b"])
def test_an_index_that_points_outside_is_refused(dataset, tmp_path, path, member):
    def lie(row):
        return {**row, "path": path} if (row["member"] is not None) == member else row

    copy = rewritten(dataset, tmp_path, lie)
    with pytest.raises(InputError, match="unsafe"):
        media_root(copy, "sha256:x", tmp_path / "scratch")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("number", range(len(PACKINGS)))
def test_a_size_that_is_not_the_archives_is_refused(dataset, tmp_path, number):
    def grow(row):
        grown = row["file"].startswith(f"pack{number}.") and row["member"] == "empty"
        return {**row, "size": 1 << 24} if grown else row

    copy = rewritten(dataset, tmp_path, grow)
    with pytest.raises(InputError, match="does not have the 16777216 bytes of the index"):
        media_root(copy, "sha256:x", tmp_path / "scratch")
    assert [p.suffix for p in (tmp_path / "scratch" / "media").iterdir()].count("") == 0


@pytest.mark.parametrize("number", range(len(PACKINGS)))
def test_an_archive_that_was_swapped_after_the_check_is_refused(dataset, tmp_path, number):
    copy = rewritten(dataset, tmp_path, dict)
    (path,) = (copy / "files").glob(f"pack{number}.*")
    other = {name: data.swapcase() for name, data in FILES.items()} | {"deep/0/file0.bin": b""}
    other["deep/39/file39.bin"] = b"x" * len(FILES["deep/39/file39.bin"])
    path.write_bytes(list(PACKINGS.values())[number](other))
    with pytest.raises(InputError, match=r"the file or the index was changed: check the artifact"):
        media_root(copy, "sha256:x", tmp_path / "scratch")


@pytest.mark.parametrize(
    "swap",
    [
        lambda path: path.write_bytes(wav(0.2)),
        lambda path: path.unlink(),
        lambda path: path.rename(path.with_suffix(".old")) and path.symlink_to("x.old"),
    ],
)
def test_a_loose_medium_that_was_swapped_after_the_check_is_refused(dataset, tmp_path, swap):
    copy = rewritten(dataset, tmp_path, dict)
    swap(copy / "files" / "loose" / "x.wav")
    with pytest.raises(InputError, match=r"'loose/x.wav' does not have .* was changed"):
        media_root(copy, "sha256:x", tmp_path / "scratch")


@pytest.mark.parametrize("path", ["loose/x.wav", "pack0/deep/3/file3.bin"])
@pytest.mark.parametrize("harm", ["changed", "shortened", "deleted", "linked"])
def test_a_medium_that_changed_since_is_noticed_and_made_again(dataset, tmp_path, path, harm):
    folder = uri_path(dataset.uri)
    events = Events("sft", tmp_path / "events.jsonl", echo=False)
    root = media_root(folder, dataset.digest, tmp_path)
    was = (root / path).read_bytes()
    if harm in ("deleted", "linked"):
        (root / path).unlink()
    if harm == "linked":
        (root / path).symlink_to(folder / "sources.json")
    if harm in ("changed", "shortened"):
        (root / path).chmod(0o644)
        (root / path).write_bytes(was[::-1] if harm == "changed" else was[:-1])
    media_root(folder, dataset.digest, tmp_path, events)
    assert (root / path).read_bytes() == was
    assert f"{path} was changed or deleted" in (tmp_path / "events.jsonl").read_text()


def test_who_writes_to_the_media_root_does_not_change_the_artifact(dataset, tmp_path):
    folder = uri_path(dataset.uri)
    root = media_root(folder, dataset.digest, tmp_path)
    assert all(not p.stat().st_mode & 0o222 for p in root.rglob("*") if p.is_file())
    (root / "loose" / "x.wav").chmod(0o644)
    (root / "loose" / "x.wav").write_bytes(b"other")
    assert verify(manifest_uri(dataset)) == []


def test_a_disk_too_small_is_said_before_anything_is_written(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(materialize, "free_bytes", lambda path: 10)
    with pytest.raises(InputError, match="10 B free, the extracted media need"):
        media_root(uri_path(dataset.uri), dataset.digest, tmp_path)


def test_verify_finds_nothing_wrong_and_then_each_thing_that_is(dataset, tmp_path):
    assert verify(manifest_uri(dataset)) == []
    home = tmp_path / "moved" / dataset.stage / dataset.key
    shutil.copytree(uri_path(dataset.uri).parent, home)
    (home / "done").unlink()
    (home / "content" / "sources.json").unlink()
    (home / "content" / "added").write_text("x")
    flipped = home / "content" / "files" / "loose" / "x.wav"
    data = bytearray(flipped.read_bytes())
    data[60] ^= 1
    flipped.write_bytes(data)
    problems = verify(str(home))
    assert [p.partition(":")[0] for p in problems] == [
        "done",
        "files/loose/x.wav",
        "sources.json",
        "added",
    ]
    assert "its bytes changed" in problems[1]
    assert "missing" in problems[2]

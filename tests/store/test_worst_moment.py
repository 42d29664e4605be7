"""A store at the worst moment: kills, two writers, strangers' files, no room, another place."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omnistage.errors import DamagedError, InputError
from omnistage.files import private_folder, write_atomic
from omnistage.store import folder as folder_module
from omnistage.store import objects, s3
from omnistage.store.folder import FolderStore
from omnistage.store.layout import Store
from omnistage.store.manifest import Manifest
from omnistage.store.open import open_store, read_manifest
from omnistage.store.uris import manifest_uri, store_uri, uri_path
from omnistage.store.verify import verify

KEY = "0" * 32


class KilledError(BaseException):
    """Where a kill would end the process."""


def make(store: Store, files: dict[str, bytes]) -> Path:
    folder = store.work_folder("sft", KEY) / "out"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def commit(store: Store, files: dict[str, bytes], **fields: Any) -> Manifest:
    return store.commit(make(store, files), "SFTCheckpoint", "sft", KEY, **fields)


def killed_at(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, nth: int = 1) -> None:
    """End the process, as it were, before the nth call of a module's function."""
    real, calls = getattr(module, name), [0]

    def act(*given: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == nth:
            raise KilledError
        return real(*given, **named)

    monkeypatch.setattr(module, name, act)


# --- a kill during the commit


@pytest.mark.parametrize("act", ["write_atomic", "sync", "rename"])
def test_files_that_a_killed_commit_had_moved_are_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    store = FolderStore(tmp_path)
    with monkeypatch.context() as patch:
        if act == "rename":
            patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KilledError))
        else:
            killed_at(patch, folder_module, act, nth=2)
        with pytest.raises(KilledError):
            commit(store, {"a": b"1", "b": b"2"})
    assert store.find("sft", KEY) is None
    said: list[str] = []
    adopted = store.recover("sft", KEY, "SFTCheckpoint", said.append)
    assert adopted
    assert adopted == store.find("sft", KEY)
    assert (store.local(adopted) / "b").read_bytes() == b"2"
    assert not said
    assert sorted(p.name for p in (tmp_path / "sft").iterdir()) == [f".{KEY}.work", KEY]


def test_files_that_a_killed_commit_had_copied_in_part_are_made_again(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    made = commit(store, {"a": b"1", "b": b"2"})
    new = tmp_path / "sft" / f".{KEY}.new"
    (tmp_path / "sft" / KEY).rename(new)
    (new / "done").unlink()
    (new / "content" / "b").unlink()
    said: list[str] = []
    assert store.recover("sft", KEY, "SFTCheckpoint", said.append) is None
    assert "cut short" in said[0]
    assert not new.exists()
    assert commit(store, {"a": b"1", "b": b"2"}) == made


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    made = commit(store, {"a": b"1"})
    for left in (f".{KEY}.new", f".{KEY}.discarded.1234"):
        shutil.copytree(tmp_path / "sft" / KEY, tmp_path / "sft" / left)
    assert store.recover("sft", KEY, "SFTCheckpoint", pytest.fail) == made
    assert sorted(p.name for p in (tmp_path / "sft").iterdir()) == [f".{KEY}.work", KEY]


def test_a_commit_over_file_systems_tells_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def other_disk(source: Any, target: Any) -> None:
        if Path(source).name == "out":
            raise OSError(18, "Invalid cross-device link")
        real(source, target)

    store, told = FolderStore(tmp_path), list[tuple[int, int]]()
    monkeypatch.setattr(os, "rename", other_disk)
    made = commit(store, {"a": b"x" * 10, "b": b"y" * 5}, progress=lambda *t: told.append(t))
    assert store.find("sft", KEY) == made
    assert [total for _, total in told] == [15] * 4  # two files hashed, then copied
    assert told[1] == told[3] == (15, 15)


def test_a_commit_to_a_bucket_tells_how_far_it_is(store: Store) -> None:
    told: list[tuple[int, int]] = []
    commit(store, {"a": b"x" * 10}, progress=lambda *t: told.append(t))
    assert told[-1] == (10, 10)


# --- two writers, and readers without the lock


def test_an_artifact_is_whole_the_moment_it_is_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher that looks without the lock right after the rename sees a whole artifact."""
    store, seen = FolderStore(tmp_path), list[Manifest | None]()
    real = Path.rename

    def rename_and_look(self: Path, target: Path) -> Path:
        seen.append(FolderStore(tmp_path).find("sft", KEY))
        moved = real(self, target)
        if target == tmp_path / "sft" / KEY:
            seen.append(FolderStore(tmp_path).find("sft", KEY))
        return moved

    monkeypatch.setattr(Path, "rename", rename_and_look)
    made = commit(store, {"a": b"1"})
    assert seen == [None, made]


def test_of_two_writers_the_first_wins_and_both_say_so(store: Store) -> None:
    one, two = commit(store, {"a": b"one"}), commit(store, {"a": b"two"})
    assert two == one == store.find("sft", KEY)
    assert (store.local(two) / "a").read_bytes() == b"one"


def test_of_two_writers_to_a_bucket_in_the_same_moment_the_first_manifest_wins(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNISTAGE_SCRATCH", str(tmp_path / "one"))
    store = open_store(f"s3://{bucket}/{tmp_path.name}")
    folder, others = make(store, {"a": b"one"}), list[Manifest]()
    real = objects.create

    def create(uri: str, data: bytes) -> bool:
        if not others:  # the other one writes its manifest while ours is on the way
            monkeypatch.setenv("OMNISTAGE_SCRATCH", str(tmp_path / "two"))
            monkeypatch.setattr(s3.objects, "create", real)
            others.append(commit(store, {"a": b"two"}))
        return real(uri, data)

    monkeypatch.setattr(s3.objects, "create", create)
    mine = store.commit(folder, "SFTCheckpoint", "sft", KEY)
    assert mine == others[0] == store.find("sft", KEY)
    below = [o.uri for o in objects.list_below(f"{store.uri}/")]
    assert below == [f"{mine.uri}/a", manifest_uri(mine)]  # nothing of the second is left


def test_a_damaged_artifact_in_a_bucket_gives_way(bucket: str, tmp_path: Path) -> None:
    store = open_store(f"s3://{bucket}/{tmp_path.name}")
    first = commit(store, {"a": b"one"})
    objects.delete([f"{first.uri}/a"])
    second = commit(store, {"a": b"two"})
    assert second != first
    assert store.find("sft", KEY) == second


def test_discarding_leaves_what_was_committed_since(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judged manifest goes, not one that took its place between look and removal."""
    store = open_store(f"s3://{bucket}/{tmp_path.name}")
    first, made = commit(store, {"a": b"one"}), list[Manifest]()
    real = objects.delete_version

    def delete(uri: str, tag: str) -> None:
        monkeypatch.setattr(s3.objects, "delete_version", real)
        store.discard("sft", KEY)
        made.append(commit(store, {"a": b"two"}))
        real(uri, tag)

    monkeypatch.setattr(s3.objects, "delete_version", delete)
    store.discard("sft", KEY)
    assert store.find("sft", KEY) == made[0] != first


# --- what is there is compared with what should be


def _home(store: FolderStore) -> Path:
    return store.root / "sft" / KEY


CHANGES: dict[str, Callable[[Path], Any]] = {
    "the marker of another artifact": lambda home: (home / "done").write_text("sha256:0"),
    "its stage is": lambda home: home.rename(home.parent.with_name("grpo") / KEY),
    "its key is": lambda home: home.rename(home.with_name("1" * 32)),
    "extra: not in the manifest": lambda home: (home / "content/extra").write_text("x"),
    "a/extra: not in the manifest": lambda home: (home / "content/a/extra").write_text("x"),
    "link: a link": lambda home: (home / "content/link").symlink_to("/etc/passwd"),
    "content: a link": lambda home: _link_folder(home / "content"),
    "f: a link": lambda home: _link_folder(home / "content/f"),
    "'manifest.json' is missing": lambda home: (home / "manifest.json").unlink(),
}


def _link_folder(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


@pytest.mark.parametrize("says", CHANGES)
def test_what_is_not_what_was_committed_is_damaged(tmp_path: Path, says: str) -> None:
    store = FolderStore(tmp_path)
    commit(store, {"a/b": b"1", "f": b"2"})
    (tmp_path / "grpo").mkdir()
    CHANGES[says](_home(store))
    where = next(p for p in tmp_path.glob("[a-z]*/[0-9]*"))
    with pytest.raises(DamagedError, match=says):
        store.find(where.parent.name, where.name)
    if (where / "manifest.json").is_file():
        assert verify(str(where)) or says == "content: a link"


def test_an_artifact_of_another_kind_is_damaged(store: Store) -> None:
    commit(store, {"a": b"1"})
    with pytest.raises(DamagedError, match="its kind is SFTCheckpoint, expected BaseModel"):
        store.find("sft", KEY, "BaseModel")


def test_an_object_too_many_is_seen(bucket: str, tmp_path: Path) -> None:
    store = open_store(f"s3://{bucket}/{tmp_path.name}")
    made = commit(store, {"a": b"1"})
    objects.write(f"{made.uri}/planted.py", b"import os")
    with pytest.raises(DamagedError, match=r"planted.py: not in the manifest"):
        store.find("sft", KEY)
    assert verify(manifest_uri(made)) == ["planted.py: not in the manifest"]


# --- a store that was moved


def test_a_moved_folder_store_works(tmp_path: Path) -> None:
    made = commit(FolderStore(tmp_path / "old"), {"a": b"1"})
    (tmp_path / "old").rename(tmp_path / "new")
    moved = FolderStore(tmp_path / "new")
    found = moved.find("sft", KEY)
    assert found
    assert read_manifest(manifest_uri(found)) == found
    assert store_uri(found) == moved.uri
    assert (open_store(store_uri(found)).local(found) / "a").read_bytes() == b"1"
    assert verify(manifest_uri(found)) == []
    assert found.digest == made.digest


def test_a_copied_bucket_works(bucket: str, tmp_path: Path) -> None:
    old = open_store(f"s3://{bucket}/{tmp_path.name}/old")
    commit(old, {"a": b"1"})
    moved = open_store(f"s3://{bucket}/{tmp_path.name}/new/er")
    for found in list(objects.list_below(f"{old.uri}/")):
        objects.write(moved.uri + found.uri.removeprefix(old.uri), objects.read(found.uri) or b"")
        objects.delete([found.uri])
    found = moved.find("sft", KEY)
    assert found
    assert read_manifest(manifest_uri(found)) == found
    assert store_uri(found) == moved.uri
    assert (moved.local(found) / "a").read_bytes() == b"1"
    assert verify(manifest_uri(found)) == []


# --- what was fetched


@pytest.fixture
def fetched(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, Any]:
    monkeypatch.setenv("OMNISTAGE_SCRATCH", str(tmp_path / "scratch"))
    store = open_store(f"s3://{bucket}/{tmp_path.name}")
    return store, commit(store, {"a": b"1234", "b/c": b"5"})


@pytest.mark.parametrize("change", ["write", "replace", "add", "remove"])
def test_a_fetched_artifact_that_changed_is_fetched_again(
    fetched: tuple[Store, Manifest], change: str
) -> None:
    store, made = fetched
    folder = store.local(made)
    if change == "write":
        times = (folder / "a").stat()
        (folder / "a").write_bytes(b"4321")
        os.utime(folder / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
    elif change == "replace":
        write_atomic(folder / "a", b"4321")
    elif change == "add":
        (folder / "b/planted.py").write_text("import os")
    else:
        (folder / "b/c").unlink()
    again = store.local(made)
    assert {p.name: p.read_bytes() for p in again.rglob("*") if p.is_file()} == {
        "a": b"1234",
        "c": b"5",
    }


def test_a_fetched_artifact_that_is_unchanged_is_not_fetched_again(
    fetched: tuple[Store, Manifest],
) -> None:
    store, made = fetched
    folder = store.local(made)
    (folder / "a").chmod(0o600)  # the seal is broken, the bytes are not
    objects.delete([f"{made.uri}/a"])
    assert (store.local(made) / "a").read_bytes() == b"1234"


def test_an_artifact_planted_under_the_name_to_come_is_not_trusted(
    fetched: tuple[Store, Manifest],
) -> None:
    store, made = fetched
    folder = store.local(made)
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "a").write_bytes(b"evil")
    assert (store.local(made) / "a").read_bytes() == b"1234"


def test_what_is_fetched_is_for_this_user_alone(fetched: tuple[Store, Manifest]) -> None:
    store, made = fetched
    assert store.local(made).parent.stat().st_mode & 0o777 == 0o700


def test_a_temporary_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    with pytest.raises(InputError, match="OMNISTAGE_SCRATCH"):
        private_folder(tmp_path / "link")


def test_the_scratch_folder_of_a_bucket_is_each_users_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OMNISTAGE_SCRATCH", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scratch = open_store("s3://bucket/x").scratch
    assert scratch == tmp_path / f"omnistage-{os.getuid()}"
    assert scratch.stat().st_mode & 0o777 == 0o700


def test_a_file_with_a_name_that_is_not_portable_is_not_stored(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    with pytest.raises(InputError, match="cannot be stored"):
        commit(store, {"a\\..\\b": b"1"})
    assert uri_path(store.uri) == tmp_path

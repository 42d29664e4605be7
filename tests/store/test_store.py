"""The store: what is committed is found whole, and what is not whole is never trusted."""

import os
import threading
from pathlib import Path

import pytest

from omnistage.errors import DamagedError, InputError
from omnistage.store import s3_client
from omnistage.store.folder import FolderStore
from omnistage.store.layout import Store
from omnistage.store.manifest import Manifest
from omnistage.store.open import open_store, read_manifest
from omnistage.store.uris import manifest_uri, store_uri

KEY = "0" * 32


def commit(store: Store, files: dict[str, bytes], key: str = KEY) -> Manifest:
    folder = store.work_folder("sft", key) / "out"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return store.commit(folder, "SFTCheckpoint", "sft", key, counts={"steps": 3})


def test_the_region_of_a_cluster_is_that_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    s3_client.client.cache_clear()
    assert s3_client.client().meta.region_name == "eu-central-1"
    s3_client.client.cache_clear()


def test_fetching_from_s3_tells_how_far_it_is(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNISTAGE_SCRATCH", str(tmp_path / "scratch"))
    store = open_store(f"s3://{bucket}/{tmp_path.name}")
    made = commit(store, {"a": b"x" * 1000, "b": b"y" * 500})
    told: list[tuple[int, int]] = []
    store.local(made, lambda done, total: told.append((done, total)))
    assert told[-1] == (1500, 1500)


def test_what_is_committed_is_found_with_the_same_bytes(store: Store) -> None:
    made = commit(store, {"model/weights": b"w" * 1000, "logs/train.log": b"x"})
    found = store.find("sft", KEY)
    assert found == made
    assert found is not None
    assert found.counts == {"steps": 3}
    assert (store.local(found) / "model/weights").read_bytes() == b"w" * 1000
    assert read_manifest(manifest_uri(found)) == found
    assert store_uri(found) == store.uri


def test_nothing_is_found_under_another_key(store: Store) -> None:
    commit(store, {"a": b"1"})
    assert store.find("sft", "1" * 32) is None
    assert store.find("grpo", KEY) is None


def test_a_discarded_artifact_is_gone(store: Store) -> None:
    commit(store, {"a": b"1"})
    store.discard("sft", KEY)
    assert store.find("sft", KEY) is None


def test_a_second_commit_replaces_the_first(store: Store) -> None:
    commit(store, {"a": b"1", "gone": b"2"})
    store.discard("sft", KEY)
    second = commit(store, {"a": b"3"})
    assert store.find("sft", KEY) == second
    assert sorted(p.name for p in store.local(second).iterdir()) == ["a"]


def test_logs_are_no_part_of_the_content_digest(store: Store) -> None:
    one = commit(store, {"a": b"1", "logs/l": b"monday"}, "1" * 32)
    two = commit(store, {"a": b"1", "logs/l": b"tuesday"}, "2" * 32)
    three = commit(store, {"a": b"2", "logs/l": b"monday"}, "3" * 32)
    assert one.digest == two.digest != three.digest


@pytest.mark.parametrize("change", ["flip", "shorten", "remove"])
def test_a_damaged_file_is_named(tmp_path: Path, change: str) -> None:
    store = FolderStore(tmp_path)
    made = commit(store, {"model/weights": b"w" * 1000})
    path = store.local(made) / "model/weights"
    if change == "flip":
        path.write_bytes(b"w" * 500 + b"v" + b"w" * 499)
    elif change == "shorten":
        path.write_bytes(b"w" * 999)
    else:
        path.unlink()
    with pytest.raises(DamagedError, match="model/weights"):
        store.find("sft", KEY)


def test_without_its_marker_nothing_is_trusted(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    commit(store, {"a": b"1"})
    (tmp_path / "sft" / KEY / "done").unlink()
    with pytest.raises(DamagedError, match="incomplete"):
        store.find("sft", KEY)


def test_a_manifest_that_lost_a_file_is_damaged(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    made = commit(store, {"a": b"1", "b": b"2"})
    shorter = made.model_copy(update={"files": made.files[:1]})
    (tmp_path / "sft" / KEY / "manifest.json").write_bytes(shorter.to_json())
    with pytest.raises(DamagedError, match="digest"):
        store.find("sft", KEY)


def test_a_missing_object_in_a_bucket_is_named(bucket: str, tmp_path: Path) -> None:
    store = open_store(f"s3://{bucket}/{tmp_path.name}")
    made = commit(store, {"a": b"1", "b": b"22"})
    name, prefix = s3_client.split(made.uri)
    s3_client.client().delete_object(Bucket=name, Key=f"{prefix}/b")
    with pytest.raises(DamagedError, match="b: missing"):
        store.find("sft", KEY)


def test_bytes_changed_in_a_bucket_are_seen_when_fetched(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNISTAGE_SCRATCH", str(tmp_path / "scratch"))
    store = open_store(f"s3://{bucket}/{tmp_path.name}")
    made = commit(store, {"a": b"1234"})
    name, prefix = s3_client.split(made.uri)
    s3_client.client().put_object(Bucket=name, Key=f"{prefix}/a", Body=b"1235")
    with pytest.raises(DamagedError, match="sha256 differs"):
        store.local(made)


def test_of_two_writers_to_a_bucket_the_first_wins(bucket: str, tmp_path: Path) -> None:
    store = open_store(f"s3://{bucket}/{tmp_path.name}")
    one = commit(store, {"a": b"one"})
    two = commit(store, {"a": b"two"})
    assert two == one
    found = store.find("sft", KEY)
    assert found is not None
    assert found.digest == one.digest


def test_a_missing_bucket_is_one_clear_error(bucket: str) -> None:
    with pytest.raises(InputError, match="NoSuchBucket"):
        open_store("s3://no-such-bucket/x").find("sft", KEY)


def test_a_folder_that_may_not_be_written_is_one_clear_error(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    answer, child_end = os.pipe()
    child = os.fork()
    if child == 0:  # root may write anywhere, so a child becomes somebody else
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            FolderStore(closed).work_folder("sft", KEY)
        except InputError as e:
            os.write(child_end, str(e).encode())
        finally:
            os._exit(0)
    os.close(child_end)
    os.waitpid(child, 0)
    with os.fdopen(answer) as f:
        assert "permission denied" in f.read()


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(InputError, match="gs://"):
        open_store("gs://bucket/x")


def test_only_one_process_at_a_time_holds_the_lock_of_a_key(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    order: list[str] = []
    entered = threading.Event()

    def second() -> None:
        entered.wait()
        with FolderStore(tmp_path).lock("sft", KEY):
            order.append("second")

    thread = threading.Thread(target=second)
    with store.lock("sft", KEY):
        thread.start()
        entered.set()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]

"""S3 through an endpoint that fails: nothing half-written is read, and transient errors say so."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from omnistage.errors import DamagedError, InputError, OmnistageError, TransientError
from omnistage.store import objects, s3_client
from omnistage.store.layout import Store
from omnistage.store.manifest import Manifest
from omnistage.store.open import open_store, read_manifest
from omnistage.store.uris import manifest_uri
from omnistage.store.verify import verify
from tests.store.faulty_s3 import Fault, FaultyS3, faulty_s3

KEY = "0" * 32
FILES = {"model/weights": b"w" * 3000, "a #?%+ü.txt": b"named as people name files"}


@pytest.fixture
def endpoint(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    real = urlsplit(os.environ["AWS_ENDPOINT_URL_S3"])
    monkeypatch.setenv("OMNISTAGE_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(s3_client, "_RETRIES", 1)  # each one more waits up to 20 s
    with faulty_s3(str(real.hostname), int(real.port or 80)) as (faulty, url):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        s3_client.client.cache_clear()
        yield faulty
    s3_client.client.cache_clear()


@pytest.fixture
def store(endpoint: FaultyS3, bucket: str, tmp_path: Path) -> Store:
    return open_store(f"s3://{bucket}/{tmp_path.name}")


def make(store: Store, files: dict[str, bytes] = FILES, key: str = KEY) -> Path:
    folder = store.work_folder("sft", key) / "out"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def commit(store: Store, files: dict[str, bytes] = FILES, key: str = KEY) -> Manifest:
    return store.commit(make(store, files, key), "SFTCheckpoint", "sft", key)


FAULTS: list[Any] = ["drop", "lost answer", 500, 503, "skew", "timeout"]


@pytest.mark.parametrize("how", [*FAULTS, "cut", "garbage"])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST|DELETE"])
def test_an_endpoint_that_fails_for_good_ends_every_act_with_a_transient_error(
    endpoint: FaultyS3, store: Store, how: Any, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = commit(store)
    monkeypatch.setattr(s3_client, "_RETRIES", 0)
    s3_client.client.cache_clear()
    endpoint.faults = [Fault(how, method)]
    source = make(store, FILES, "2" * 32) / "model/weights"
    acts = {
        "commit": lambda: commit(store, {"a": b"1"}, "1" * 32),
        "find": lambda: store.find("sft", KEY),
        "local": lambda: store.local(made),
        "save": lambda: store.save_work("sft", KEY, "x", source),
        "read": lambda: read_manifest(manifest_uri(made)),
        "discard": lambda: store.discard("sft", KEY),
    }
    errors = {name: _error_of(act) for name, act in acts.items()}
    if how == "garbage" and method == "GET":  # whole to boto3, and not what was stored
        assert isinstance(errors.pop("local"), DamagedError)
    assert {type(e) for e in errors.values()} <= {TransientError, type(None)}
    assert not any("\n" in str(e) for e in errors.values())
    if method == "GET":
        assert [name for name, error in errors.items() if not error] == ["save"]
    elif method == "PUT" and how != "cut":  # half an empty answer is a whole one
        assert errors["commit"]
    elif method == "POST|DELETE" and how != "cut":
        assert errors["discard"]


def _error_of(act: Callable[[], Any]) -> OmnistageError | None:
    try:
        act()
    except OmnistageError as e:
        return e
    return None


@pytest.mark.parametrize("how", FAULTS)
def test_one_fault_on_the_way_is_survived(endpoint: FaultyS3, store: Store, how: Any) -> None:
    endpoint.faults = [Fault(how, "PUT", "manifest.json", times=1)]
    try:
        made = commit(store)
    except TransientError:  # a code that boto3 does not retry: the stage does
        assert how in ("skew", "timeout")
        made = commit(store)
    assert store.find("sft", KEY) == made
    assert not list((store.scratch / "work").rglob("weights"))


def test_an_answer_that_is_lost_loses_no_result(endpoint: FaultyS3, store: Store) -> None:
    """The manifest was written; the client is told of a fault, and its retry of a conflict."""
    endpoint.faults = [Fault("lost answer", "PUT", "manifest.json", times=1)]
    made = commit(store)
    assert endpoint.seen.count(("PUT", f"{urlsplit(manifest_uri(made)).path}")) <= 2
    assert store.find("sft", KEY) == made
    assert (store.local(made) / "model/weights").read_bytes() == FILES["model/weights"]


def test_a_request_that_arrives_late_replaces_nothing(endpoint: FaultyS3, store: Store) -> None:
    endpoint.faults = [Fault("late", "PUT", "manifest.json")]
    with pytest.raises(TransientError):
        commit(store, {"a": b"first"})
    endpoint.faults = []
    second = commit(store, {"a": b"second"})
    endpoint.deliver_late()
    assert store.find("sft", KEY) == second


def test_after_a_cut_upload_only_what_is_missing_is_sent_again(
    endpoint: FaultyS3, store: Store
) -> None:
    endpoint.faults = [Fault("drop", "PUT", "weights")]
    with pytest.raises(TransientError):
        commit(store, {"a": b"1", "b": b"2", "weights": b"3"})
    assert store.find("sft", KEY) is None
    endpoint.faults, endpoint.seen = [], []
    made = commit(store, {"a": b"1", "b": b"2", "weights": b"3"})
    sent = [path.rpartition("/")[2] for method, path in endpoint.seen if method == "PUT"]
    assert sent == ["weights", "manifest.json"]
    assert store.find("sft", KEY) == made


def test_other_bytes_after_a_cut_upload_are_all_sent(endpoint: FaultyS3, store: Store) -> None:
    endpoint.faults = [Fault("drop", "PUT", "weights")]
    with pytest.raises(TransientError):
        commit(store, {"a": b"1", "weights": b"3"})
    endpoint.faults = []
    made = commit(store, {"a": b"2", "weights": b"3"})
    assert (store.local(made) / "a").read_bytes() == b"2"


def test_a_body_cut_in_the_middle_is_never_taken_for_the_file(
    endpoint: FaultyS3, store: Store
) -> None:
    made = commit(store)
    endpoint.faults = [Fault("cut", "GET", "weights")]
    with pytest.raises(TransientError):
        store.local(made)
    with pytest.raises(TransientError):
        verify(manifest_uri(made))
    endpoint.faults = []
    assert (store.local(made) / "model/weights").read_bytes() == FILES["model/weights"]


def test_after_a_cut_fetch_only_what_did_not_come_whole_is_fetched(
    endpoint: FaultyS3, store: Store
) -> None:
    made = commit(store, {"a": b"1" * 9, "b/c": b"2" * 9, "weights": b"3" * 9})
    endpoint.faults = [Fault("drop", "GET", "weights")]
    with pytest.raises(TransientError):
        store.local(made)
    (part,) = store.scratch.glob("artifacts/*.part")
    (part / "b/c").write_bytes(b"cut")
    (part / "b/c.8fA3").write_bytes(b"boto3's own name while it fetches")
    (part / "link").symlink_to("/etc")
    endpoint.faults, endpoint.seen = [], []
    folder = store.local(made)
    asked = {path.rpartition("/")[2] for method, path in endpoint.seen if method == "GET"}
    assert asked == {"c", "weights"}
    assert {p.name for p in folder.rglob("*") if p.is_file()} == {"a", "c", "weights"}
    assert (folder / "b/c").read_bytes() == b"2" * 9


def test_a_slow_endpoint_is_waited_for(endpoint: FaultyS3, store: Store) -> None:
    made = commit(store)
    endpoint.faults = [Fault("slow")]
    assert store.find("sft", KEY) == made
    assert (store.local(made) / "model/weights").read_bytes() == FILES["model/weights"]


def test_an_endpoint_that_always_says_conflict_ends_the_commit(
    endpoint: FaultyS3, store: Store
) -> None:
    endpoint.faults = [Fault(412, "PUT", "manifest.json")]
    with pytest.raises(TransientError, match="others write and remove it"):
        commit(store)


def test_an_endpoint_without_conditional_writes_is_served(
    endpoint: FaultyS3, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = endpoint.forward

    def refuse(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        if {"if-none-match", "if-match"} & {name.lower() for name in headers}:
            return 501, {}, b"<Error><Code>NotImplemented</Code></Error>"
        return real(method, path, headers, body)

    monkeypatch.setattr(endpoint, "forward", refuse)
    one = commit(store, {"a": b"one"})
    assert commit(store, {"a": b"two"}) == one
    store.discard("sft", KEY)
    assert store.find("sft", KEY) is None


def test_what_can_never_succeed_is_an_input_error(endpoint: FaultyS3, store: Store) -> None:
    with pytest.raises(InputError, match="NoSuchBucket"):
        objects.write("s3://no-such-bucket/x", b"")


def test_a_clock_that_is_off_is_named(endpoint: FaultyS3, store: Store) -> None:
    endpoint.faults = [Fault("skew", "GET")]
    with pytest.raises(TransientError, match="is this machine's clock right"):
        store.find("sft", KEY)

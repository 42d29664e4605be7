"""Faults of the line, the source, the archives and the machine: verified, or one clear error."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time

import orjson
import pytest

from components.download.config import Transfer
from components.download.transfer import fetch
from components.download.transfer.part_file import GrowingFile
from components.download.transfer.remote_file import RemoteFile, XetFile
from omnistage.errors import InputError, TransientError
from tests.archives.test_reader import tar_bytes
from tests.components.download.download_kit import (
    COMMIT,
    MB,
    REPO,
    TRANSFER,
    Fault,
    Heard,
    Served,
    add_repo,
    content,
    download,
    https,
    noise,
    serve,
    unstored,
)

pytestmark = pytest.mark.usefixtures("quick_retries")


def test_every_transient_error_ends_verified(tmp_path, hub):
    kinds = {
        "drop": [Fault("drop", after=100_000), Fault("drop", after=0)],
        "stall": [Fault("stall", after=70_000)],
        "drip": [Fault("drip", after=70_000)],
        "truncate": [Fault("truncate")],
        "corrupt": [Fault("corrupt")],
        "busy": [Fault("status", status=429, retry_after="0"), Fault("status", status=503)],
        "error": [Fault("status", status=500), Fault("status", status=502)],
        "redirect": [Fault("redirect")],
    }
    files = {f"{kind}.bin": noise(300_000, seed) for seed, kind in enumerate(kinds)}
    paths = add_repo(hub.served, files)
    for kind, faults in kinds.items():
        hub.served.faults[paths[f"{kind}.bin"]] = list(faults)
    hub.served.faults[f"/api/datasets/{REPO}/revision/{COMMIT}"] = [Fault("status", status=503)]
    events = Heard()
    with serve(Served(files=hub.served.files)) as elsewhere:
        hub.served.elsewhere = elsewhere
        source = {"type": "hub", "repo": REPO, "revision": COMMIT}
        outcome = download(tmp_path, source, events=events)
    for name, data in files.items():
        assert (content(outcome) / "files" / name).read_bytes() == data
    assert hub.served.sent[paths["drop.bin"]] == 300_000  # resumed, nothing fetched twice
    assert hub.served.sent[paths["corrupt.bin"]] == 600_000
    assert [w for w in events.warnings if "corrupt.bin" in w and "fetching it again" in w]
    assert not any(queue for queue in hub.served.faults.values())


def test_a_token_goes_to_the_hub_and_not_to_where_it_redirects(tmp_path, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    paths = add_repo(hub.served, {"a.bin": b"x" * 1000})
    hub.served.always[paths["a.bin"]] = Fault("redirect")
    with serve(Served(files=hub.served.files)) as elsewhere:
        hub.served.elsewhere = elsewhere
        outcome = download(tmp_path, {"type": "hub", "repo": REPO, "revision": COMMIT})
        ((_, headers),) = elsewhere.served.requests
    assert "Authorization" not in headers
    sent = [h.get("authorization") or h.get("Authorization") for _, h in hub.served.requests]
    assert set(sent) == {"Bearer hf_secret"}
    everything = b"".join(p.read_bytes() for p in content(outcome).parent.rglob("*.json"))
    assert b"hf_secret" not in everything


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (Fault("corrupt"), InputError, "sha256 is .* was stated, twice the same"),
        (Fault("drop", after=0), TransientError, "given up after 4 tries.*run it again"),
        (Fault("stall", after=10), TransientError, "given up after 4 tries"),
        (Fault("truncate"), TransientError, "150000 bytes, 300000 were expected"),
        (Fault("status", status=503), TransientError, "answered 503"),
        (Fault("status", status=429, retry_after="0"), TransientError, "answered 429"),
        (Fault("status", status=403), InputError, "403; access is denied"),
        (Fault("status", status=404), InputError, "404; it is not there"),
    ],
)
def test_every_lasting_fault_ends_in_one_clear_error(tmp_path, hub, fault, error, message):
    paths = add_repo(hub.served, {"a.bin": noise(300_000)})
    hub.served.always[paths["a.bin"]] = fault
    with pytest.raises(error, match=message):
        download(tmp_path, {"type": "hub", "repo": REPO, "revision": COMMIT})
    assert unstored(tmp_path)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((404, {}), InputError, "not found, or private"),
        ((503, {}), TransientError, "could not be listed after 2 tries.*503"),
    ],
)
def test_a_hub_that_does_not_list_is_one_clear_error(tmp_path, hub, answer, error, message):
    hub.served.answers[f"/api/datasets/{REPO}/revision/main"] = answer
    with pytest.raises(error, match=message):
        download(tmp_path, {"type": "hub", "repo": REPO}, transfer={**TRANSFER, "tries": 2})


def test_a_stalled_xet_line_is_killed_and_the_file_fetched_without_xet(tmp_path, hub):
    data = noise(100_000)
    paths = add_repo(hub.served, {"a.bin": data}, xet=["a.bin"])
    token = f"/api/datasets/{REPO}/xet-read-token/{COMMIT}"
    hub.served.headers[paths["a.bin"]] = {
        "X-Xet-Hash": "ab" * 32,
        "X-Repo-Commit": COMMIT,
        "Link": f'<{hub.url}{token}>; rel="xet-auth"',
    }
    hub.served.files[token] = b"x" * 1000
    hub.served.always[token] = Fault("stall", after=0)
    events = Heard()
    source = {"type": "hub", "repo": REPO, "revision": COMMIT}
    transfer = {**TRANSFER, "stall_seconds": 2.0}
    outcome = download(tmp_path, source, transfer=transfer, events=events)
    assert (content(outcome) / "files" / "a.bin").read_bytes() == data
    assert [w for w in events.warnings if "without xet" in w]
    assert any(path == token for path, _ in hub.served.requests)


def test_a_file_is_followed_only_after_xet_has_put_it_there(tmp_path, monkeypatch):
    data, order, done = noise(100_000), [], threading.Event()

    def by_xet(file, target, stall_seconds, stopped):
        order.append("xet")
        whole = target.with_suffix(".whole")
        whole.write_bytes(data)
        whole.replace(target)  # as the client does: not the file that was opened before

    monkeypatch.setattr(fetch, "fetch_by_xet", by_xet)
    xet = XetFile(REPO, "dataset", COMMIT, "a.bin", None)
    file = RemoteFile("a.bin", "hub", lambda: [], size=len(data), etag="1", xet=xet)
    job = fetch.FileTransfer(file, tmp_path / "part")

    def started(job):
        order.append("started")
        with GrowingFile(job.part_path) as follower:
            order.append(follower.read(len(data)) == data)

    def fetched(job):
        order.append("fetched")
        done.set()

    def failed(error):
        order.append(error)
        done.set()

    with fetch.Fetcher([job], Transfer(workers=1), started, fetched, failed, order.append):
        assert done.wait(60)
    assert order == ["xet", "started", True, "fetched"]


def test_mirrors_are_tried_in_turn(tmp_path, served):
    data = noise(200_000)
    served.served.files |= {"/good": data, "/bad": data[::-1]}
    source = {
        "type": "https",
        "files": [
            {
                "url": f"{served.url}/gone",
                "mirrors": [f"{served.url}/bad", f"{served.url}/good"],
                "name": "a.bin",
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        ],
    }
    outcome = download(tmp_path, source)
    assert (content(outcome) / "files" / "a.bin").read_bytes() == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tar_bytes({"ok": b"1", "../evil": b"2"}), r"bad.tar: member '../evil' is refused"),
        (tar_bytes({"a": noise(9000)})[:5000], r"bad.tar: truncated or damaged"),
        (b"<html></html>", r"bad.tar: not an archive"),
    ],
)
def test_a_hostile_or_broken_archive_stops_the_stage(tmp_path, served, data, message):
    served.served.files["/bad.tar"] = data
    with pytest.raises(InputError, match=message):
        download(tmp_path, https(served, "bad.tar"))
    assert unstored(tmp_path)


def test_hashes_of_the_recipe_are_held_against_the_bytes(tmp_path, served):
    served.served.files["/a.bin"] = b"hello"
    right = hashlib.sha256(b"hello").hexdigest()
    with pytest.raises(InputError, match=f"sha256 is {right}, {'0' * 64} was stated"):
        download(tmp_path, https(served, "a.bin"), sha256={"a.bin": "0" * 64})
    with pytest.raises(InputError, match="no source has the file 'b.bin'"):
        download(tmp_path, https(served, "a.bin"), sha256={"b.bin": right})
    download(tmp_path, https(served, "a.bin"), sha256={"a.bin": right})


def test_the_free_disk_is_checked_before_the_first_byte(tmp_path, hub, monkeypatch):
    monkeypatch.setattr("components.download.collect.free_bytes", lambda path: 1000)
    paths = add_repo(hub.served, {"a.bin": b"x" * 1000})
    with pytest.raises(InputError, match=r"1\.0 kB free, 1\.0 kB are still to be fetched"):
        download(tmp_path, {"type": "hub", "repo": REPO, "revision": COMMIT})
    assert not hub.served.sent[paths["a.bin"]]


def test_a_disk_that_fills_up_is_one_clear_error(tmp_path, served, monkeypatch):
    served.served.files["/a.bin"] = noise(300_000)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(InputError, match="the disk is full"):
        download(tmp_path, https(served, "a.bin"))
    assert unstored(tmp_path)


def test_a_killed_download_goes_on_where_it_was(tmp_path, hub):
    files = {f"{n}.tar": tar_bytes({f"{n}.bin": noise(3 * MB, n)}) for n in range(3)}
    paths = add_repo(hub.served, files)
    hub.served.rate = 4 * MB
    spec = tmp_path / "spec.json"
    transfer = {**TRANSFER, "workers": 1, "stall_seconds": 10}
    source = {"type": "hub", "repo": REPO, "revision": COMMIT}
    config = {"sources": [source], "transfer": transfer}
    spec.write_bytes(orjson.dumps({"config": config, "store": (tmp_path / "store").as_uri()}))
    command = [sys.executable, "-m", "components.download", "--spec", str(spec)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while hub.served.sent[paths["1.tar"]] < MB and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    sent = dict(hub.served.sent)
    assert sent[paths["0.tar"]] == len(files["0.tar"])
    hub.served.rate = None
    done = subprocess.run(command, stderr=subprocess.PIPE, timeout=60, text=True)
    assert done.returncode == 0, done.stderr
    assert hub.served.sent[paths["0.tar"]] == sent[paths["0.tar"]]  # verified: not asked for again
    # Of the file that was under way, only what was in the sockets is fetched twice.
    assert hub.served.sent[paths["1.tar"]] < len(files["1.tar"]) + 3 * MB
    (manifest,) = (tmp_path / "store" / "download").glob("[0-9a-f]*/manifest.json")
    for name, data in files.items():
        assert (manifest.parent / "content" / "files" / name).read_bytes() == data

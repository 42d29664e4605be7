"""The download stages: every source, verified and indexed; every fault ends in one of two ways."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import orjson
import pytest
from moto.server import ThreadedMotoServer

import components.download.fetch as fetch
from components.download.config import DownloadSettings, ModelSettings
from components.download.stage import MODEL_STAGE, STAGE
from omnistage.errors import InputError, TransientError
from omnistage.events import Events
from omnistage.files import read_jsonl
from omnistage.s3 import client
from omnistage.stage import Outcome, execute, parse_config
from omnistage.store import FolderStore, uri_path
from tests.download_kit import COMMIT, REPO, Fault, Served, add_repo, clip, png, serve, wav
from tests.test_archives import tar_bytes, zip_bytes

MB = 1 << 20
TRANSFER = {"workers": 4, "processes": 1, "stall_seconds": 0.4, "tries": 4}


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch):
    monkeypatch.setattr(fetch, "_FIRST_WAIT", 0.01)


@pytest.fixture
def served():
    content = Served()
    with serve(content) as server:
        yield server


@pytest.fixture
def hub(served, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return served


class Heard(Events):
    """Events that remember the warnings."""

    def __init__(self) -> None:
        super().__init__("download", echo=False)
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def noise(size: int, seed: int = 0) -> bytes:
    import random

    return random.Random(seed).randbytes(size)


def download(
    tmp_path: Path, *sources: dict[str, Any], events: Events | None = None, **settings: Any
) -> Outcome:
    values = {"sources": list(sources), "transfer": TRANSFER, **settings}
    config = parse_config(DownloadSettings, values, "data").resolve()
    return execute(STAGE, config, {}, FolderStore(tmp_path / "store"), events=events)


def https(server, *names: str, **fields: Any) -> dict[str, Any]:
    files = [{"url": f"{server.url}/{name}", **fields} for name in names]
    return {"type": "https", "files": files}


def content(outcome: Outcome) -> Path:
    return uri_path(outcome.manifest.uri)


def unstored(tmp_path: Path) -> bool:
    """Whether the store has nothing under a final name."""
    home = tmp_path / "store" / "download"
    return not any(p for p in home.iterdir() if not p.name.startswith("."))


def test_a_folder_becomes_a_data_set_with_an_index(tmp_path):
    source = tmp_path / "mine"
    (source / "loose").mkdir(parents=True)
    (source / "C:\\Users\\me\\video.zip").write_bytes(
        zip_bytes({"clips/a.mp4": clip(tmp_path / "a.mp4", True), "clips/broken.mp4": b"no clip"})
    )
    (source / "images.tar.gz").write_bytes(
        subprocess.run(
            ["gzip"], input=tar_bytes({"images/1.png": png(5, 7)}), stdout=-1, check=True
        ).stdout
    )
    (source / "loose" / "x.wav").write_bytes(wav(0.5))
    (source / "loose" / "rows.jsonl").write_text("{}\n")
    events = Heard()
    outcome = download(tmp_path, {"type": "folder", "path": str(source)}, events=events)
    rows = {r["path"]: r for r in read_jsonl(content(outcome) / "index.jsonl")}
    assert list(rows) == [
        "video/clips/a.mp4",
        "video/clips/broken.mp4",
        "images/1.png",
        "loose/x.wav",
    ]
    a = rows["video/clips/a.mp4"]
    assert a["file"] == "C:\\Users\\me\\video.zip"
    assert a["member"] == "clips/a.mp4"
    assert a["sha256"] == hashlib.sha256((tmp_path / "a.mp4").read_bytes()).hexdigest()
    assert a["media"]["has_audio"] is True
    assert (a["media"]["width"], a["media"]["height"], a["media"]["frames"]) == (32, 16, 8)
    assert "error" in rows["video/clips/broken.mp4"]["media"]
    assert rows["images/1.png"]["media"] == {
        "type": "image",
        "format": "png",
        "width": 5,
        "height": 7,
    }
    assert rows["loose/x.wav"]["media"]["duration"] == 0.5
    assert rows["loose/x.wav"]["member"] is None
    counts = outcome.manifest.counts
    assert counts["files"] == 4
    assert counts["archives"] == 2
    assert counts["members"] == 3
    assert counts["undecodable"] == 1
    assert any("video/clips/broken.mp4" in w for w in events.warnings)


def test_a_changed_folder_is_another_key_and_the_same_one_is_not_read_again(tmp_path):
    source = tmp_path / "mine"
    source.mkdir()
    (source / "a.jsonl").write_text("{}\n")
    first = download(tmp_path, {"type": "folder", "path": str(source)})
    assert download(tmp_path, {"type": "folder", "path": str(source)}).cached
    (source / "a.jsonl").write_text('{"more": 1}\n')
    second = download(tmp_path, {"type": "folder", "path": str(source)})
    assert second.manifest.key != first.manifest.key
    assert (content(second) / "files" / "a.jsonl").read_text() == '{"more": 1}\n'


def test_sources_are_mixed_and_kept_apart_by_target(tmp_path, served):
    served.served.files["/rows.jsonl"] = b"{}\n"
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("[]")
    local = {"type": "folder", "path": str(folder)}
    with pytest.raises(InputError, match=r"two sources have 'rows.jsonl'.*target"):
        download(tmp_path, https(served, "rows.jsonl"), local)
    outcome = download(tmp_path, https(served, "rows.jsonl"), {**local, "target": "mine"})
    assert [f.path for f in outcome.manifest.files] == [
        "files/mine/rows.jsonl",
        "files/rows.jsonl",
        "index.jsonl",
        "sources.json",
    ]


def test_the_hub_is_fetched_at_one_commit_and_recorded(tmp_path, hub):
    data = tar_bytes({"1.png": png()})
    add_repo(hub.served, {"images.tar": data, "README.md": b"hello", "skip.bin": b"x"}, lfs=False)
    events = Heard()
    source = {"type": "hub", "repo": REPO, "ignore_patterns": ["skip.*"]}
    outcome = download(tmp_path, source, events=events)
    (record,) = json.loads((content(outcome) / "sources.json").read_text())
    assert record["resolved_revision"] == COMMIT
    assert record["licence"] == "mit"
    by_path = {f["path"]: f for f in record["files"]}
    assert list(by_path) == ["images.tar", "README.md"]
    assert by_path["images.tar"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert by_path["images.tar"]["stated"]["git_sha1"]
    assert f"resolve/{COMMIT}/images.tar" in by_path["images.tar"]["url"]
    assert any("may move" in w and COMMIT in w for w in events.warnings)


def test_every_passing_fault_ends_verified(tmp_path, hub):
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


def test_a_server_without_ranges_or_length_is_read_in_one_go(tmp_path, served, monkeypatch):
    monkeypatch.setattr(fetch, "SEGMENT", MB)
    big = tar_bytes({"a.bin": noise(3 * MB)})
    served.served.files |= {"/plain.tar": big, "/endless.tar": big}
    served.served.no_ranges |= {"/plain.tar", "/endless.tar"}
    served.served.no_length.add("/endless.tar")
    served.served.faults["/plain.tar"] = [Fault(""), Fault("drop", after=2 * MB)]
    outcome = download(tmp_path, https(served, "plain.tar", "endless.tar"))
    assert (content(outcome) / "files" / "plain.tar").read_bytes() == big
    assert (content(outcome) / "files" / "endless.tar").read_bytes() == big
    assert outcome.manifest.counts["members"] == 2


def test_a_large_file_is_fetched_in_segments_side_by_side(tmp_path, served, monkeypatch):
    monkeypatch.setattr(fetch, "SEGMENT", MB)
    big = tar_bytes({"a.bin": noise(5 * MB)})
    served.served.files["/big.tar"] = big
    outcome = download(tmp_path, https(served, "big.tar"))
    asked = [h["Range"] for _, h in served.served.requests if "Range" in h]
    assert f"bytes={MB}-{2 * MB - 1}" in asked
    assert (content(outcome) / "files" / "big.tar").read_bytes() == big


def test_the_bandwidth_cap_holds_over_all_connections(tmp_path, served):
    for name in "abcd":
        served.served.files[f"/{name}"] = bytes(250_000)
    began = time.monotonic()
    transfer = {**TRANSFER, "bandwidth": 1_000_000}
    download(tmp_path, https(served, *"abcd"), transfer=transfer)
    assert time.monotonic() - began > 0.85  # 1 MB at 1 MB/s, less the tenth that may burst


def test_split_archives_are_indexed_over_their_parts(tmp_path, served):
    data = tar_bytes({"a.png": png(), "b.wav": wav()})
    parts = {"all.tar.aa": data[:3000], "all.tar.ab": data[3000:7000], "all.tar.ac": data[7000:]}
    served.served.files |= {f"/{name}": part for name, part in parts.items()}
    outcome = download(tmp_path, https(served, *parts))
    rows = list(read_jsonl(content(outcome) / "index.jsonl"))
    assert [(r["path"], r["file"]) for r in rows] == [
        ("all/a.png", "all.tar.aa"),
        ("all/b.wav", "all.tar.aa"),
    ]


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


@pytest.fixture(scope="module")
def s3():
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_a_prefix_of_a_bucket_is_fetched(tmp_path, s3, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL_S3": s3,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client.cache_clear()
    bucket = boto3.client("s3")
    bucket.create_bucket(Bucket="data")
    bodies = {"set/a.tar": tar_bytes({"1.png": png()}), "set/sub/rows.jsonl": b"{}\n"}
    for key, body in {**bodies, "set2/other": b"no"}.items():
        bucket.put_object(Bucket="data", Key=key, Body=body, ChecksumAlgorithm="SHA256")
    outcome = download(tmp_path, {"type": "s3", "uri": "s3://data/set"})
    client.cache_clear()
    for key, body in bodies.items():
        assert (content(outcome) / "files" / key.removeprefix("set/")).read_bytes() == body
    (record,) = json.loads((content(outcome) / "sources.json").read_text())
    assert [f["url"] for f in record["files"]] == [
        "s3://data/set/a.tar",
        "s3://data/set/sub/rows.jsonl",
    ]
    assert all(f["stated"]["sha256"] == f["sha256"] for f in record["files"])


def test_a_model_is_fetched_as_it_is(tmp_path, served):
    served.served.files |= {"/config.json": b"{}", "/model.safetensors": noise(1000)}
    values = {"sources": [https(served, "model.safetensors")], "transfer": TRANSFER}
    store = FolderStore(tmp_path / "store")
    with pytest.raises(InputError, match=r"no config\.json"):
        execute(MODEL_STAGE, ModelSettings.model_validate(values), {}, store)
    values["sources"] = [https(served, "config.json", "model.safetensors")]
    outcome = execute(MODEL_STAGE, ModelSettings.model_validate(values), {}, store)
    assert outcome.manifest.kind == "BaseModel"
    assert [f.path for f in outcome.manifest.files] == [
        "files/config.json",
        "files/model.safetensors",
        "sources.json",
    ]


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


def test_settings_that_cannot_change_the_bytes_are_not_in_the_key(tmp_path, served):
    served.served.files["/a.bin"] = b"hello"
    first = download(tmp_path, https(served, "a.bin"))
    other = download(tmp_path, https(served, "a.bin"), transfer={"workers": 1})
    assert other.cached
    assert other.manifest.key == first.manifest.key


def test_two_fresh_stores_get_the_same_digest(tmp_path, served):
    served.served.files["/a.tar"] = tar_bytes({"b.png": png(), "a.wav": wav()})
    one = download(tmp_path / "one", https(served, "a.tar"))
    two = download(tmp_path / "two", https(served, "a.tar"), transfer={**TRANSFER, "processes": 2})
    assert one.manifest.digest == two.manifest.digest

"""The download stages: every source, verified and indexed; every fault ends in one of two ways."""

import hashlib
import json
import subprocess

import boto3
import pytest
from moto.server import ThreadedMotoServer

from components.download.config import ModelSettings
from components.download.stage import MODEL_STAGE
from components.download.transfer import fetch
from omnistage.errors import InputError
from omnistage.files import read_jsonl
from omnistage.stage.execute import execute
from omnistage.store.folder import FolderStore
from omnistage.store.s3_client import client
from tests.archives.test_reader import tar_bytes, zip_bytes
from tests.components.download.download_kit import (
    COMMIT,
    MB,
    REPO,
    TRANSFER,
    Fault,
    Heard,
    add_repo,
    clip,
    content,
    download,
    https,
    noise,
    png,
    wav,
)

pytestmark = pytest.mark.usefixtures("quick_retries")


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


def test_the_bandwidth_cap_holds_over_all_connections(tmp_path, served, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(fetch, "time", clock)
    for name in "abcd":
        served.served.files[f"/{name}"] = bytes(250_000)
    transfer = {**TRANSFER, "bandwidth": 1_000_000}
    download(tmp_path, https(served, *"abcd"), transfer=transfer)
    # Bytes wait one after another: the last may go a second after the first, less the tenth of a
    # second that may burst, and each waits until it may go.
    assert 0.85 < clock.now < 1.1


class Clock:
    """Time that passes only while somebody sleeps, who are one after another."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.now = max(self.now, seconds)


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

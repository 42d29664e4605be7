"""ModelScope models as a source: resolved to a commit, verified, resumed, refused with a reason."""

import hashlib
import json

import orjson
import pytest
from modelscope_hub import HubApi

from components.download.config import ModelSettings
from components.download.sources import modelscope
from components.download.stage import MODEL_STAGE
from components.download.transfer import fetch
from omnistage.errors import InputError, TransientError
from omnistage.settings import parse_config
from omnistage.stage.execute import execute
from omnistage.store.folder import FolderStore
from tests.components.download.download_kit import (
    MB,
    TRANSFER,
    Fault,
    Heard,
    Served,
    content,
    noise,
    serve,
)
from tests.components.download.modelscope_kit import MODEL, Repository, path_of, serve_modelscope

pytestmark = pytest.mark.usefixtures("quick_retries")

_OLD, _NEW = "aaaaaaaa" + "1" * 32, "bbbbbbbb" + "2" * 32
_API = f"/api/v1/models/{MODEL}"
_WEIGHTS = "model.safetensors"
_FILES = {
    "config.json": b'{"model_type": "tiny"}',
    "README.md": b"hello",
    "nested/deep/vocab.json": b"{}",
    _WEIGHTS: noise(300_000),
}


@pytest.fixture
def repository():
    return Repository(
        commits={_OLD: {**_FILES, "README.md": b"hi"}, _NEW: _FILES},
        branches={"master": _NEW, "dev": _OLD},
        tags={"v1.0": _OLD},
    )


@pytest.fixture
def server(repository, monkeypatch):
    monkeypatch.delenv("MODELSCOPE_API_TOKEN", raising=False)
    with serve_modelscope(repository) as running:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", running.url)
        yield running


def download(tmp_path, events=None, **fields):
    source = {"type": "modelscope", "model": MODEL, **fields}
    values = {"sources": [source], "transfer": TRANSFER}
    config = parse_config(ModelSettings, values, "model").resolve()
    return execute(MODEL_STAGE, config, {}, FolderStore(tmp_path / "store"), events=events)


def record(outcome):
    (found,) = orjson.loads((content(outcome) / "sources.json").read_bytes())
    return found


def test_a_branch_is_fetched_at_its_commit_and_recorded(tmp_path, server):
    events = Heard()
    outcome = download(tmp_path, events)
    for name, data in _FILES.items():
        assert (content(outcome) / "files" / name).read_bytes() == data
    found = record(outcome)
    assert found["model"] == MODEL
    assert found["revision"] == "master"
    assert found["resolved_revision"] == _NEW
    assert found["licence"] == "Apache License 2.0"
    by_path = {f["path"]: f for f in found["files"]}
    assert set(by_path) == set(_FILES)
    weights = by_path[_WEIGHTS]
    assert weights["sha256"] == hashlib.sha256(_FILES[_WEIGHTS]).hexdigest()
    assert weights["stated"]["sha256"] == weights["sha256"]
    assert f"Revision={_NEW}&FilePath={_WEIGHTS}" in weights["url"]
    assert any(f"it is {_NEW} now" in w for w in events.warnings)
    # All that was listed before the first byte, and every byte of one commit.
    asked = [path for path, _ in server.served.requests]
    first = min(asked.index(path_of(_NEW, name)) for name in _FILES)
    assert set(asked[:first]) == {_API, f"{_API}/repo/files"}
    assert set(asked[first:]) == {path_of(_NEW, name) for name in _FILES}


def test_its_own_client_gets_the_same_files_from_this_server(tmp_path, server, monkeypatch):
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "home"))
    api = HubApi(endpoint=server.url)
    folder = api.download_repo(MODEL, "model", revision=_NEW, local_dir=str(tmp_path / "theirs"))
    ours = content(download(tmp_path)) / "files"
    for name, data in _FILES.items():
        assert (tmp_path / "theirs" / name).read_bytes() == (ours / name).read_bytes() == data
    assert str(folder) == str(tmp_path / "theirs")


@pytest.mark.parametrize(
    ("revision", "commit", "moves"), [(_OLD, _OLD, False), ("v1.0", _OLD, True)]
)
def test_a_tag_and_a_commit_are_resolved_too(tmp_path, server, revision, commit, moves):
    events = Heard()
    outcome = download(tmp_path, events, revision=revision)
    assert record(outcome)["resolved_revision"] == commit
    assert (content(outcome) / "files" / "README.md").read_bytes() == b"hi"
    assert any("may move" in w for w in events.warnings) == moves


def test_a_commit_that_only_removed_files_is_not_named_and_that_is_said(
    tmp_path, repository, server
):
    newest = "cccccccc" + "3" * 32
    left = {name: data for name, data in _FILES.items() if name != "README.md"}
    repository.commits[newest] = left
    repository.branches["master"] = newest
    server.served.files |= {path_of(newest, name): data for name, data in left.items()}
    events = Heard()
    found = record(download(tmp_path, events))
    assert found["resolved_revision"] is None
    assert found["commit_begins"] == "cccccccc"
    assert all(f["stated"]["sha256"] == f["sha256"] for f in found["files"])
    assert any("begins cccccccc" in w and "sha256 of each file" in w for w in events.warnings)


def test_patterns_choose_the_files(tmp_path, server):
    outcome = download(tmp_path, allow_patterns=["*.json"], ignore_patterns=["nested/*"])
    assert [f["path"] for f in record(outcome)["files"]] == ["config.json"]


def test_a_long_listing_is_asked_for_folder_by_folder(tmp_path, repository, server, monkeypatch):
    repository.listed = 6
    monkeypatch.setattr(modelscope, "_LISTED", 6)
    tree = {f"part{n}/deep/{m}.json": b"%d" % m for n in range(3) for m in range(2)}
    tree |= {"config.json": b"{}", "top.txt": b""}
    repository.commits[_NEW] = tree
    server.served.files |= {path_of(_NEW, name): data for name, data in tree.items()}
    outcome = download(tmp_path)
    assert {f["path"] for f in record(outcome)["files"]} == set(tree)


def test_a_listing_that_cannot_be_had_in_full_is_refused(tmp_path, repository, server, monkeypatch):
    repository.listed = 3
    monkeypatch.setattr(modelscope, "_LISTED", 3)
    with pytest.raises(
        InputError, match="the top has 3 files or more, and ModelScope lists no more"
    ):
        download(tmp_path)


def test_a_large_file_comes_in_ranges_and_a_dropped_one_goes_on(
    tmp_path, repository, server, monkeypatch
):
    monkeypatch.setattr(fetch, "SEGMENT", MB)
    data = noise(3 * MB + 5)
    repository.commits[_NEW] = {"config.json": b"{}", _WEIGHTS: data}
    path = path_of(_NEW, _WEIGHTS)
    server.served.files |= {path: data, path_of(_NEW, "config.json"): b"{}"}
    server.served.faults[path] = [Fault(""), Fault("drop", after=400_000), Fault("drop", after=0)]
    outcome = download(tmp_path)
    assert (content(outcome) / "files" / _WEIGHTS).read_bytes() == data
    assert server.served.sent[path] == len(data) + 1  # the one byte that asks for the size
    ranges = {h["Range"] for asked, h in server.served.requests if asked == path and "Range" in h}
    assert {"bytes=0-0", f"bytes=0-{MB - 1}", f"bytes={3 * MB}-{3 * MB + 4}"} <= ranges


def test_a_dropped_connection_goes_on_at_the_byte_where_it_broke(tmp_path, server):
    path = path_of(_NEW, _WEIGHTS)
    server.served.faults[path] = [Fault("drop", after=131_072)]
    outcome = download(tmp_path)
    assert (content(outcome) / "files" / _WEIGHTS).read_bytes() == _FILES[_WEIGHTS]
    assert server.served.sent[path] == 300_000
    asked = [h.get("Range") for where, h in server.served.requests if where == path]
    assert asked == [None, "bytes=131072-299999"]


def test_passing_faults_of_listing_and_bytes_pass(tmp_path, server):
    path = path_of(_NEW, _WEIGHTS)
    server.served.faults[_API] = [Fault("status", status=503)]
    server.served.faults[f"{_API}/repo/files"] = [
        Fault("status", status=429, retry_after="0"),
        Fault("status", status=500),
    ]
    server.served.faults[path] = [Fault("status", status=502), Fault("corrupt")]
    events = Heard()
    outcome = download(tmp_path, events)
    assert (content(outcome) / "files" / _WEIGHTS).read_bytes() == _FILES[_WEIGHTS]
    assert any(_WEIGHTS in w and "fetching it again" in w for w in events.warnings)


@pytest.mark.parametrize(
    ("path", "fault", "error", "message"),
    [
        (_API, Fault("status", status=404), InputError, "404; it is not there.*private.*API_TOKEN"),
        (_API, Fault("status", status=403), InputError, "403; access is denied"),
        (_API, Fault("status", status=500), TransientError, "not be listed after 4 tries.*500"),
        (f"{_API}/repo/files", Fault("status", status=503), TransientError, "answered 503"),
        (path_of(_NEW, _WEIGHTS), Fault("status", status=404), InputError, f"{_WEIGHTS}: .*404"),
        (path_of(_NEW, _WEIGHTS), Fault("status", status=503), TransientError, "given up after 4"),
        (path_of(_NEW, _WEIGHTS), Fault("drop", after=0), TransientError, "given up after 4 tries"),
        (path_of(_NEW, _WEIGHTS), Fault("corrupt"), InputError, "sha256 is .* twice the same"),
    ],
)
def test_every_lasting_fault_ends_in_one_clear_error(tmp_path, server, path, fault, error, message):
    server.served.always[path] = fault
    with pytest.raises(error, match=message):
        download(tmp_path)


def test_a_revision_that_is_not_there_is_named_with_those_that_are(tmp_path, server):
    with pytest.raises(InputError, match="no revision 'main'.*it has master, dev, v1.0"):
        download(tmp_path, revision="main")
    with pytest.raises(InputError, match="404"):
        download(tmp_path, revision="0" * 40)


def test_a_model_that_is_not_there_is_named(tmp_path, server):
    with pytest.raises(InputError, match="modelscope model no/such: .*404.*check the name"):
        download(tmp_path, model="no/such")


def test_a_private_model_wants_the_token_which_stays_with_modelscope(
    tmp_path, repository, server, monkeypatch
):
    repository.token = "ms-secret"
    with pytest.raises(InputError, match="401; .*MODELSCOPE_API_TOKEN"):
        download(tmp_path)
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-secret")
    path = path_of(_NEW, _WEIGHTS)
    server.served.always[path] = Fault("redirect")
    server.served.requests.clear()
    with serve(Served(files={path: _FILES[_WEIGHTS]})) as elsewhere:
        server.served.elsewhere = elsewhere
        outcome = download(tmp_path)
        ((_, headers),) = elsewhere.served.requests
    assert (content(outcome) / "files" / _WEIGHTS).read_bytes() == _FILES[_WEIGHTS]
    assert not {"authorization", "cookie"} & {name.lower() for name in headers}
    for _, sent in server.served.requests:
        assert sent["Authorization"] == "Bearer ms-secret"
        assert sent["Cookie"] == "m_session_id=ms-secret"
    stored = b"".join(p.read_bytes() for p in content(outcome).parent.rglob("*.json"))
    assert b"ms-secret" not in stored
    assert json.loads((content(outcome) / "sources.json").read_text())

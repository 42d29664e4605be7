"""Manifests made to write elsewhere or to break their readers: refused in one line, or harmless."""

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnistage.errors import DamagedError, InputError
from omnistage.runs.prune.needed import named_places
from omnistage.settings import Settings
from omnistage.stage.contract import Context, Result, Stage
from omnistage.store import objects
from omnistage.store import s3 as s3_module
from omnistage.store.manifest import Manifest, files_digest
from omnistage.store.open import open_store, read_manifest
from omnistage.store.reference import referred
from omnistage.store.s3 import S3Store
from omnistage.store.uris import uri_path
from omnistage.store.verify import verify
from omnistage.swift.lineage import lineage_of
from omnistage.task.program import main
from tests.store.interleave import MemoryS3

KEY, SHA = "0" * 32, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of "x"
RIGHT: dict[str, Any] = {
    "kind": "BaseModel",
    "schema_version": 1,
    "stage": "download_model",
    "key": KEY,
    "digest": f"sha256:{SHA}",
    "uri": f"s3://b/p/download_model/{KEY}/content/1",
    "files": [
        {"path": "a/b", "size": 1, "sha256": SHA},
        {"path": "c", "size": 1, "sha256": SHA},
    ],
    "counts": {"records": 1},
    "metadata": {"lineage": {"base": {"stage": "sft"}, "model": None, "adapters": []}},
    "produced_by": {"config": {}, "inputs": {"data": {"uri": "s3://b/p/x"}}, "libraries": {}},
}
PATHS = st.lists(
    st.sampled_from(
        ["..", ".", "", "a", "b", "/", "\\", "\0", "\n", "C:", "~", "é", "a" * 300, "c"]
    ),
    max_size=5,
).map("/".join)
URIS = st.builds(
    "{}{}{}".format,
    st.sampled_from(
        ["file://", "file:///", "s3://", "s3://b/p/", "http://", "", "file://[", "s3://["]
    ),
    PATHS,
    st.sampled_from(["", f"/download_model/{KEY}/content", f"/download_model/{KEY}/content/../x"]),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    PATHS,
    URIS,
    st.sampled_from([KEY, SHA, f"sha256:{SHA}", "BaseModel", "LoRAAdapter", "\x1b[2J", "x\ny"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(PATHS, inner, max_size=2),
    max_leaves=4,
)
Place = tuple[str | int, ...]


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """Where something stands in a manifest."""
    if path:
        yield path
    inner = enumerate(value) if isinstance(value, list) else ()
    for key, item in value.items() if isinstance(value, dict) else inner:
        yield from places(item, (*path, key))


@st.composite
def manifests(draw: st.DrawFn) -> bytes:
    """A right manifest with other values in some places, and fields that it has not."""
    document = copy.deepcopy(RIGHT)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(list(places(document))))
        there: Any = document
        for step in way:
            there = there[step]
        what = draw(st.sampled_from(["value", "path", "uri", "new", "gone"]))
        if what == "gone" and isinstance(there, dict):
            del there[last]
        elif what == "new" and isinstance(there, dict):
            there[draw(PATHS)] = draw(VALUES)
        else:
            there[last] = draw({"path": PATHS, "uri": URIS}.get(what, VALUES))
        if not document:
            break
    # A digest that fits, so that more than the digest is looked at.
    files = document.get("files")
    if draw(st.booleans()) and isinstance(files, list):
        try:
            whole = Manifest.model_validate({**RIGHT, "files": files})
            document["digest"] = f"sha256:{files_digest(whole.files)}"
        except ValueError:
            pass
    return json.dumps(document).encode()


def refusal(act: Callable[[], object]) -> str:
    """Return why something is refused; nothing where it is not."""
    try:
        act()
    except InputError as e:
        return str(e)
    return ""


FEW = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FEW
@given(data=manifests())
def test_a_manifest_is_refused_in_one_line_or_names_files_of_its_own_folder(data: bytes) -> None:
    said = refusal(lambda: Manifest.from_json(data, "m.json"))
    assert said.isprintable()
    if said:
        assert said.startswith("m.json: ")
        return
    manifest = Manifest.from_json(data, "m.json")
    for entry in manifest.files:
        assert Path("/store", entry.path).resolve().is_relative_to("/store")
    named_places(manifest.produced_by)
    assert refusal(lambda: lineage_of(manifest)).isprintable()
    assert refusal(lambda: referred(manifest.metadata, manifest)).isprintable()


class Nothing(Settings):
    """Settings of a stage that has none."""


def _read_all(context: Context[Nothing]) -> Result:
    folder = context.folder("model")
    names = [p.name for p in folder.rglob("*") if p.is_file()]
    (context.out / "names").write_text(json.dumps(names))
    return Result()


STAGE = Stage("sft", "SFTCheckpoint", 1, Nothing, {"model": "BaseModel"}, _read_all)


@FEW
@given(data=manifests())
def test_a_stage_that_is_given_one_writes_nothing_elsewhere(
    data: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a bucket, whose files are fetched, with an object for every path it could mean."""
    bucket = MemoryS3()
    bucket.objects[f"p/download_model/{KEY}/manifest.json"] = data
    for path in ("a/b", "c", "a", "b", "../x", "é"):
        bucket.objects[f"p/download_model/{KEY}/content/1/{path}"] = b"x"
    with tempfile.TemporaryDirectory() as name, monkeypatch.context() as patch:
        folder = Path(name)
        patch.setattr(objects, "client", lambda: bucket)
        patch.setattr(s3_module, "scratch_root", lambda: folder / "scratch")
        spec = {
            "config": {},
            "store": (folder / "store").as_uri(),
            "inputs": {"model": f"s3://b/p/download_model/{KEY}/manifest.json"},
        }
        code = main(STAGE, ["--spec", json.dumps(spec)])
        said = capsys.readouterr().err
        assert {p.name for p in folder.iterdir()} <= {"store", "scratch"}
        inside = {p.relative_to(folder).parts[:2] for p in folder.glob("scratch/*")}
        assert inside <= {("scratch", "artifacts"), ("scratch", "locks"), ("scratch", "work")}
    assert code in (0, 2) or (code == 1 and "missing" in said) or "differs" in said, said
    assert "Traceback" not in said
    assert all(line.isprintable() for line in said.splitlines())
    assert said.count("error: ") == (code != 0)
    assert set(bucket.objects) >= {f"p/download_model/{KEY}/manifest.json"}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"counts": ' + "[" * 1000 + "]" * 1000 + "}",
        "\0",
        "",
        '"\\ud800"',
        "7" * 5000,
    ],
)
def test_text_that_breaks_a_parser_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="^m.json: not a manifest: "):
        Manifest.from_json(text, "m.json")


@pytest.mark.parametrize("uri", ["file://[x", "s3://[x/p", "http://x", "s3://"])
def test_a_uri_that_is_none_is_refused(uri: str) -> None:
    with pytest.raises(InputError):
        uri_path(uri)
    if not uri.startswith("s3://["):  # S3 itself would refuse that bucket
        with pytest.raises(InputError):
            open_store(uri)


def test_verify_says_of_a_hostile_one_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps({**RIGHT, "uri": "file:///no/such/place"}))
    with pytest.raises(InputError):
        verify(str(tmp_path / "m.json"))
    with pytest.raises((InputError, DamagedError)):
        S3Store("s3:///x")
    assert read_manifest(str(tmp_path / "m.json")).uri == "file:///no/such/place"

"""A manifest names files inside its own folder, or it is refused when it is read."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omnistage.errors import InputError
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Manifest, content_digest, path_problem
from omnistage.store.open import open_store, read_manifest

KEY = "0" * 32
SHA = "a" * 64


def document(**fields: Any) -> dict[str, Any]:
    """Return a manifest that is right, but for the fields given."""
    return {
        "kind": "BaseModel",
        "stage": "download_model",
        "key": KEY,
        "digest": f"sha256:{SHA}",
        "uri": f"file:///store/download_model/{KEY}/content",
        "files": [{"path": "a/b", "size": 1, "sha256": SHA}],
        **fields,
    }


def entry(path: str = "a", size: Any = 1, sha256: str = SHA) -> dict[str, Any]:
    return {"path": path, "size": size, "sha256": sha256}


def refusal(**fields: Any) -> str:
    with pytest.raises(InputError) as refused:
        Manifest.from_json(orjson.dumps(document(**fields)), "m.json")
    text = str(refused.value)
    assert text.startswith("m.json: not a manifest: ")
    assert "\n" not in text
    return text


def test_a_right_one_is_read() -> None:
    assert Manifest.from_json(orjson.dumps(document()), "m.json").size == 1


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../a",
        "a/../../b",
        "a/..",
        "..",
        ".",
        "./a",
        "a/./b",
        "",
        "a//b",
        "a/",
        "a\0b",
        "C:/Windows",
        "..\\a",
        "a\\..\\..\\b",
        "n" * 300,
        "a/" * 3000 + "a",
    ],
)
def test_a_path_that_is_not_plain_and_relative_is_refused(path: str) -> None:
    assert "plain relative path" in refusal(files=[entry(path)])


@given(st.text(alphabet="ab./\\:\0C", max_size=12))
@example("a/..\\b")
def test_no_accepted_path_leaves_its_folder(path: str) -> None:
    if path_problem(path) is None:
        folder = Path("/store/content")
        assert (folder / path).resolve().is_relative_to(folder)
        assert (folder / path).as_posix() == f"/store/content/{path}"


def test_a_published_name_with_backslashes_is_accepted() -> None:
    assert path_problem("files/C:\\Users\\tmfk1\\video.zip") is None


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"files": [entry("a"), entry("a")]}, "'a' is listed twice"),
        ({"files": [entry("a"), entry("a/b/c")]}, "'a' is listed as a file and as a folder"),
        ({"files": [entry(size=-1)]}, "files.0.size"),
        ({"files": [entry(size=1.5)]}, "files.0.size"),
        ({"files": [entry(sha256="A" * 64)]}, "files.0.sha256"),
        ({"files": [entry(sha256="")]}, "files.0.sha256"),
        ({"digest": "sha256:../../x"}, "digest"),
        ({"digest": "md5:abc"}, "digest"),
        ({"stage": "../sft"}, "stage"),
        ({"stage": ""}, "stage"),
        ({"stage": ".hidden"}, "stage"),
        ({"stage": "a\n"}, "stage"),
        ({"key": "a/b"}, "key"),
        ({"key": ".."}, "key"),
        ({"key": f"{KEY}\0"}, "key"),
    ],
)
def test_fields_that_become_paths_are_checked(fields: dict[str, Any], says: str) -> None:
    assert says in refusal(**fields)


def put(store: Any, where: str, data: bytes) -> str:
    """Write a file into a store by hand; return its URI."""
    uri = f"{store.uri}/{where}"
    if isinstance(store, FolderStore):
        path = store.root / where
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    else:
        from omnistage.store import objects

        objects.write(uri, data)
    return uri


def test_it_is_refused_from_any_store(store: Any) -> None:
    hostile = orjson.dumps(document(files=[entry("../../../escaped")]))
    uri = put(store, f"download_model/{KEY}/manifest.json", hostile)
    with pytest.raises(InputError, match="plain relative path"):
        read_manifest(uri)


@pytest.mark.parametrize("uri", ["file:///etc", f"s3://b/download_model/{KEY}/../../../x"])
def test_content_that_is_not_beside_a_stored_manifest_is_refused(store: Any, uri: str) -> None:
    data = orjson.dumps(document(uri=uri))
    where = put(store, f"download_model/{KEY}/manifest.json", data)
    put(store, f"download_model/{KEY}/content/a/b", b"x")
    with pytest.raises(InputError, match="no content beside it"):
        read_manifest(where)


def test_a_copied_manifest_of_a_bucket_names_no_folder_of_this_machine(
    bucket: str, tmp_path: Path
) -> None:
    store = open_store(f"s3://{bucket}/{tmp_path.name}")
    where = put(store, "copy.json", orjson.dumps(document(uri="file:///etc")))
    with pytest.raises(InputError, match="its content is elsewhere, at file:///etc"):
        read_manifest(where)


def test_a_file_too_large_for_a_manifest_is_not_read(tmp_path: Path) -> None:
    large = tmp_path / "manifest.json"
    with large.open("wb") as f:
        f.truncate(1 << 40)  # a hole: it takes no room
    with pytest.raises(InputError, match="larger than"):
        read_manifest(str(large))


def test_logs_are_left_out_of_the_digest() -> None:
    logs = document(files=[entry("a"), entry("logs/x", 7)])
    manifest = Manifest.from_json(orjson.dumps(logs), "m.json")
    assert content_digest(manifest.files) == content_digest(manifest.files[:1])

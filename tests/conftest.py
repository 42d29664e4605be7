"""Options of the tests, and the two kinds of store."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from components.download.transfer import fetch
from omnistage.store import s3_client
from omnistage.store.folder import FolderStore
from omnistage.store.layout import Store
from omnistage.store.open import open_store
from omnistage.swift.warm import warm_trainer
from tests.components.download.download_kit import Served, Server, serve

# These run every recipe, start a Kubernetes cluster or need vLLM: `make test-recipes`,
# `make test-cluster`, `make test-vllm`.
collect_ignore = ["recipes_run", "on_cluster", "on_vllm"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden files anew instead of comparing with them",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what trains: a file of minutes at the end would leave the other cores idle."""
    files = {item.path for item in items if item.get_closest_marker("pipeline")}
    items.sort(key=lambda item: item.path not in files)


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(scope="session")
def warm() -> Iterator[None]:
    """One import of ms-swift for all trainings of these tests that run as one process."""
    with warm_trainer():
        yield


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3_client.client.cache_clear()
    boto3.client("s3").create_bucket(Bucket="artifacts")
    yield "artifacts"
    s3_client.client.cache_clear()
    patch.undo()
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    monkeypatch.setenv("OMNISTAGE_SCRATCH", str(tmp_path / "scratch"))
    name = request.getfixturevalue("bucket")
    return open_store(f"s3://{name}/{tmp_path.name}")


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads that wait 10 ms before they try again."""
    monkeypatch.setattr(fetch, "_FIRST_WAIT", 0.01)


@pytest.fixture
def served() -> Iterator[Server]:
    """A server on the loopback whose faults a test sets."""
    with serve(Served()) as server:
        yield server


@pytest.fixture
def hub(served: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The same, as the Hugging Face hub."""
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return served

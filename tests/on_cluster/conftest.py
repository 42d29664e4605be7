"""Fixtures of the tests that need a real cluster."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from omnistage.cluster.settings import ClaimMount
from tests.on_cluster import site
from tests.on_cluster.harness import operators, storage, tools
from tests.on_cluster.harness.cluster import Cluster, own_cluster, restricted_namespace, running
from tests.on_cluster.site import Site

# Kueue comes last: until its webhook answers, no deployment of another can be made.
OPERATORS = (("training-operator", "trainer"), ("kueue",))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start one cluster for all processes of pytest-xdist, in the one that gives them their work.

    It is ready before they begin, with the operators, so that no test waits for those of another.
    """
    if session.config.getoption("numprocesses", None) and not running():
        stack = contextlib.ExitStack()
        session.config.add_cleanup(stack.close)
        cluster = _start(session.config, stack, shared=True)
        for names in OPERATORS:
            with ThreadPoolExecutor() as pool:
                list(pool.map(operators.install, itertools.repeat(cluster), names))


def _start(config: pytest.Config, stack: contextlib.ExitStack, shared: bool) -> Cluster:
    """Start a cluster that the stack takes down; one line says why where that cannot be."""
    # What the build and the start say on stderr is for whoever waits for them.
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        try:
            tools.require_machine()
            tools.build()
        except tools.ToolsError as e:
            pytest.exit(str(e), returncode=1)
        return stack.enter_context(own_cluster(shared))


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """The cluster started by hand on this machine, else one for these tests alone."""
    if found := running():
        yield found
        return
    with contextlib.ExitStack() as stack:
        yield _start(pytestconfig, stack, shared=False)


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster) -> Callable[..., str]:
    """kubectl as the cluster's administrator: returns its output, raises ClusterError."""
    return cluster.kubectl


@pytest.fixture(scope="session")
def helm(cluster: Cluster) -> Callable[..., str]:
    """helm as the cluster's administrator: returns its output, raises ClusterError."""
    return cluster.helm


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A new namespace that enforces the restricted pod standard; deleted with all its volumes."""
    with restricted_namespace(cluster, request.node.name) as name:
        yield name


@pytest.fixture
def host_mounts(cluster: Cluster, namespace: str) -> list[ClaimMount]:
    """The claims, made in the test's namespace, with which pods run ``local/host:1``."""
    cluster.apply(*storage.host_claims(namespace))
    return storage.host_mounts()


@pytest.fixture(scope="session")
def s3(cluster: Cluster) -> Iterator[storage.S3]:
    """An S3 endpoint with a bucket, under one URL for the tests and for pods."""
    with storage.s3_server(cluster.address) as server:
        yield server


@pytest.fixture(scope="session")
def training_operator(cluster: Cluster) -> None:
    """The Kubeflow training operator: PyTorchJobs run."""
    operators.install(cluster, "training-operator")


@pytest.fixture(scope="session")
def trainer_operator(cluster: Cluster) -> None:
    """Kubeflow Trainer, JobSet and the runtime torch-distributed: TrainJobs run."""
    operators.install(cluster, "trainer")


@pytest.fixture(scope="session")
def kueue(cluster: Cluster) -> None:
    """Kueue, without queues: a test or a chart makes those."""
    operators.install(cluster, "kueue")


@pytest.fixture(scope="module")
def here(
    cluster: Cluster,
    trainer_operator: None,
    s3: storage.S3,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """A namespace with the chart of this repository, to which this process is connected too."""
    before = dict(os.environ)
    with restricted_namespace(cluster, request.module.__name__.rpartition(".")[2]) as name:
        cluster.apply(*storage.host_claims(name))
        home = tmp_path_factory.mktemp("site")
        yield site.install(cluster, name, s3, storage.host_mounts(), home)
    os.environ.clear()
    os.environ.update(before)
    site.use_s3()

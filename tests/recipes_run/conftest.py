"""One store for all tests of a run, training processes that are forks, and a judge to ask."""

from collections.abc import Iterator

import pytest

from omnistage.store.folder import FolderStore
from tests.recipes_run import judge


@pytest.fixture(scope="session")
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FolderStore:
    """One for all processes of the test run, in which what two recipes share is made once."""
    own = tmp_path_factory.getbasetemp()
    return FolderStore((own.parent if hasattr(request.config, "workerinput") else own) / "store")


@pytest.fixture(autouse=True, scope="session")
def forked(warm: None) -> None:
    """The trainer's processes are forks of one that has imported ms-swift already."""


@pytest.fixture(autouse=True, scope="session")
def judged() -> Iterator[None]:
    """Rewards that ask a language model ask a stand-in on the loopback."""
    server = judge.serve()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMNISTAGE_JUDGE_URL", f"{server.url}/v1")
        patch.setenv("OMNISTAGE_JUDGE_MODEL", "rule")
        yield
    server.close()

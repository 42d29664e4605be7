"""What all tests of rewards that ask a server need."""

from collections.abc import Callable, Iterator

import pytest

from omnistage.rewards.served import judgements
from omnistage.rewards.served.client import (
    CACHE_VARIABLE,
    KEY_VARIABLE,
    MODEL_VARIABLE,
    SETTINGS_VARIABLE,
    URL_VARIABLE,
)
from tests.rewards.served.server_kit import Answer, Server, reply


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge as if no stage had run in this process, which would have said where to keep answers."""
    for name in (CACHE_VARIABLE, SETTINGS_VARIABLE, URL_VARIABLE, MODEL_VARIABLE, KEY_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(judgements, "_open", {})
    monkeypatch.setattr(judgements, "BUDGET", judgements.Budget())


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(answer: Answer, *faults: int) -> Server:
        servers.append(Server(answer, list(faults)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def judge_says_three(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    server = serve(lambda body: reply("3"))
    monkeypatch.setenv("OMNISTAGE_JUDGE_URL", server.url)
    monkeypatch.setenv("OMNISTAGE_JUDGE_MODEL", "judge")
    return server

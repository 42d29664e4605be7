"""A gang that does not start, does not move or takes too long, on a clock that does not wait."""

from collections.abc import Callable

import pytest

from omnistage.cluster.lease import has_lapsed
from omnistage.errors import InputError, StageFailedError
from tests.clock import FakeClock
from tests.cluster.scripted_cluster import Pod

NO_IMAGE = {"reason": "ErrImagePull", "message": "registry.example/trainer: manifest unknown"}
SLOW_REGISTRY = {"reason": "ErrImagePull", "message": "i/o timeout"}
PULLING = {"reason": "ContainerCreating"}
NO_SECRET = {
    "reason": "CreateContainerConfigError",
    "message": 'secret "x" not found',
}


@pytest.mark.parametrize(
    ("waiting", "error", "said", "at_most"),
    [
        (NO_IMAGE, InputError, "Give an image that exists", 10),
        (SLOW_REGISTRY, StageFailedError, "Can the nodes reach the image's registry?", 70),
        (NO_SECRET, InputError, 'secret "x" not found', 15),
        (PULLING, StageFailedError, "has not started within 5:0", 320),
    ],
)
def test_a_gang_that_cannot_start_is_ended_with_the_reason(scene, waiting, error, said, at_most):
    here = scene(Pod(starts=9999, waiting=waiting))
    outcome = here.launch(here.job(start_timeout=300))

    assert isinstance(outcome.error, error)
    assert said in outcome.text
    assert here.cluster.clock.monotonic() < at_most
    assert here.cluster.jobs() == here.cluster.pods() == []


def test_a_job_that_stays_in_its_queue_is_ended_after_its_time_out(scene):
    here = scene()
    outcome = here.launch(here.job(queue="team", queue_timeout=600))

    assert "has waited 10:0" in outcome.text
    assert "queue 'team' (cluster.queue_timeout)" in outcome.text
    assert here.cluster.pods() == here.cluster.jobs() == []


def test_a_gang_that_runs_too_long_is_ended_with_its_last_lines(scene):
    here = scene(Pod(lines=("step 1", "step 2")))
    outcome = here.launch(here.job(run_timeout=100))

    assert "ran longer than 1:40 (cluster.run_timeout)" in outcome.text
    assert "step 2" in outcome.text
    assert here.cluster.clock.monotonic() < 130


class Jumping:
    """A launcher's clock that somebody sets by some seconds after a minute; the server's goes on.

    Without time for a machine that sleeps: CLOCK_MONOTONIC stands still meanwhile.
    """

    def __init__(self, clock: FakeClock, by: float, look: Callable[[], None]) -> None:
        self._clock, self._by, self._look = clock, by, look

    def time(self) -> float:
        return self._clock.time() + self._by * (self._clock.monotonic() > 60)

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float, /) -> None:
        self._clock.sleep(seconds)
        self._look()


@pytest.mark.parametrize("by", [7 * 86400.0, -7 * 86400.0])
def test_a_launcher_whose_clock_is_set_ends_no_gang_and_loses_no_lease(scene, monkeypatch, by):
    here = scene(Pod(ends=900, lines=("step 1",)))
    lapsed: list[bool] = []

    def look() -> None:
        now = here.cluster.clock.time()
        lapsed.extend(has_lapsed(job, now) for job in here.cluster.jobs())

    api = here.cluster.api()
    api.clock = Jumping(here.cluster.clock, by, look)
    monkeypatch.setattr(here.cluster, "api", lambda: api)
    outcome = here.launch(here.job(silence_timeout=1000, run_timeout=1000, start_timeout=300))

    assert outcome.error is None
    assert here.cluster.clock.monotonic() > 900
    assert len(lapsed) > 100
    assert not any(lapsed)


def test_a_gang_that_says_nothing_is_ended(scene):
    here = scene(Pod(lines=("step 1",)))
    outcome = here.launch(here.job(silence_timeout=200))

    assert "was silent for 3:2" in outcome.text
    assert "step 1" in outcome.text


def test_a_pod_without_a_node_says_why_and_waits_for_one_as_for_a_queue(scene):
    here = scene(Pod(starts=9999, status={}))

    def unscheduled() -> None:
        for pod in here.cluster.pods():
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "message": "0/2 nodes have GPUs",
            }
            pod["status"] = {"phase": "Pending", "conditions": [condition]}

    here.cluster.before("GET", r"/pods\?", unscheduled, times=10_000)
    outcome = here.launch(here.job(queue_timeout=120, start_timeout=30))

    assert "for free nodes (cluster.queue_timeout)" in outcome.text
    assert "0/2 nodes have GPUs" in outcome.text


def test_a_quota_that_refuses_the_pods_is_named(scene):
    here = scene(Pod(starts=9999))
    name = here.job().name

    def refuse() -> None:
        for pod in here.cluster.pods():
            here.cluster.objects.pop(("pods", pod["metadata"]["name"]))
        here.cluster.warn(name, "FailedCreatePod", "forbidden: exceeded quota: gpus, requested: 2")

    here.cluster.before("GET", r"/pods\?", refuse, times=10_000)
    outcome = here.launch(here.job())

    assert isinstance(outcome.error, InputError)
    assert "ResourceQuota 'gpus'" in outcome.text

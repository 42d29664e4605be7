"""A job whose run has ended is ended too, also when no exit task ran."""

import functools

import pytest

from omnistage.cluster.gang import cancel_run
from omnistage.cluster.jobs.job import LEASE_ANNOTATION
from omnistage.cluster.lease import LEASE_SECONDS
from omnistage.cluster.reaper import reap
from tests.cluster.scene import other_run
from tests.cluster.scripted_api import NAMESPACE, Killed
from tests.cluster.scripted_cluster import Pod

LONG = Pod(ends=50_000, lines=tuple(f"step {n}" for n in range(50_000)))
EVERY = 300
"""Seconds between two looks of the reaper: the chart's CronJob."""


def looks(here, times):
    """Let the reaper look every five minutes, and return what it ended each time."""
    api, ended = here.cluster.api(), []
    for _ in range(times):
        here.cluster.clock.sleep(EVERY)
        ended.append(reap(api, NAMESPACE))
    return ended


def test_a_run_that_was_terminated_without_its_exit_task_leaves_no_job(scene):
    here = scene(LONG)
    here.run()
    here.leave(here.job())
    here.run(phase="Failed")  # Argo failed the exit task's pending pod too

    assert looks(here, 4) == [[], [here.job().name], [], []]
    assert here.cluster.jobs() == here.cluster.pods() == []


@pytest.mark.parametrize("phase", ["Running", "", "Pending"])
def test_a_job_whose_run_goes_on_is_left_alone_however_long_its_launcher_is_gone(scene, phase):
    here = scene(LONG)
    here.run(phase=phase)
    here.leave(here.job())

    assert looks(here, 8) == [[]] * 8
    assert len(here.cluster.jobs()) == 1


def test_a_job_that_a_launcher_follows_keeps_its_lease(scene):
    here = scene(Pod(ends=4 * LEASE_SECONDS))
    here.run(phase="Failed")
    reaper, ended = here.cluster.api(), []
    path = rf"/pytorchjobs/{here.job().name}$"
    look = lambda: ended.extend(reap(reaper, NAMESPACE))  # noqa: E731
    here.cluster.before("GET", path, look, times=100_000)

    assert here.launch(here.job()).error is None
    assert ended == []
    renewed = [c for c in here.cluster.calls if c.startswith("PATCH")]
    assert 15 <= len(renewed) <= 21


def test_a_job_that_two_runs_own_goes_on_while_one_of_them_does(scene):
    here = scene(LONG)
    for run, phase in (("run-1", "Failed"), ("run-2", "Running")):
        here.run(run, phase)
    here.leave(here.job())
    here.leave(other_run(here.job()))

    assert looks(here, 4) == [[]] * 4
    here.run("run-2", "Succeeded")
    assert looks(here, 1) == [[here.job().name]]


def test_a_run_that_is_gone_or_whose_name_another_one_took_has_ended(scene):
    here = scene(LONG)
    here.leave(here.job())
    here.cluster.put("workflows", {"metadata": {"name": "run-1", "uid": "another"}})

    assert [here.job().name] in looks(here, 3)


def test_a_job_that_no_run_owns_is_never_ended(scene):
    here = scene(LONG)
    job = here.job()
    here.leave(type(job)(**{**vars(job), "owner": None, "run": ""}))

    assert looks(here, 5) == [[]] * 5


def test_a_job_that_is_adopted_at_the_moment_it_is_ended_goes_on(scene):
    here = scene(LONG)
    here.run("run-1", "Failed")
    here.run("run-2", "Running")
    here.leave(here.job())
    adopt = functools.partial(here.leave, other_run(here.job()))
    here.cluster.before("DELETE", r"/pytorchjobs/", adopt)

    assert looks(here, 4) == [[]] * 4
    assert len(here.cluster.jobs()) == 1


def test_a_finished_job_is_kept_for_its_logs(scene):
    here = scene(Pod(ends=10))
    here.run(phase="Succeeded")
    assert here.launch(here.job()).error is None

    assert looks(here, 5) == [[]] * 5
    assert len(here.cluster.jobs()) == 1


def test_the_exit_task_does_not_wait_for_the_lease(scene):
    here = scene(LONG)
    here.leave(here.job())
    assert (
        here.cluster.jobs()[0]["metadata"]["annotations"][LEASE_ANNOTATION] > here.cluster.stamp()
    )

    assert cancel_run(here.cluster.api(), NAMESPACE, "run-1") == [here.job().name]


def test_a_cluster_without_one_of_the_kinds_is_no_error_and_a_refusal_is_one(scene):
    here = scene()
    assert reap(here.cluster.api(), NAMESPACE) == []
    here.cluster.before("GET", "/pytorchjobs", here.cluster.kill)
    with pytest.raises(Killed):
        reap(here.cluster.api(), NAMESPACE)

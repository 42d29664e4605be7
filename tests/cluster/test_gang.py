"""The life of a gang: launched, adopted, refused, restarted, deleted, on a scripted cluster."""

import functools

import pytest

from omnistage.cluster.claim import attempt_of, claim, runs_of
from omnistage.cluster.gang import cancel_run
from omnistage.errors import ErrorReport, InputError, StageFailedError, TransientError
from tests.cluster.scene import other_run
from tests.cluster.scripted_api import NAMESPACE, Killed
from tests.cluster.scripted_cluster import Pod

LINES = ("step 1", "step 2", "step 3")
BUSY = ErrorReport("TransientError", 75, "the store is busy")
FAILS = Pod(ends=8, code=75, report=BUSY, lines=LINES)
WORKS = Pod(ends=12, lines=LINES)
LASTS = Pod(ends=60, lines=LINES)


# Launched


def test_a_gang_runs_and_the_lines_of_node_0_are_said(scene):
    here = scene(WORKS)
    outcome = here.launch(here.job())

    assert outcome.error is None
    assert outcome.lines == list(LINES)
    assert len(here.cluster.made) == 1


def test_a_transient_error_restarts_the_whole_gang_after_a_delay(scene):
    here = scene(FAILS, WORKS)
    outcome = here.launch(here.job(retry_delay=30))

    assert outcome.error is None
    assert len(here.cluster.made) == 2
    (job,) = here.cluster.jobs()
    assert attempt_of(job) == 1
    assert any("the store is busy" in t and "in 30 s, restart 1 of 3" in t for t in outcome.said)
    assert 30 in here.cluster.clock.slept


def test_restarts_end_with_the_last_error(scene):
    here = scene(FAILS)
    outcome = here.launch(here.job(retries=2))

    assert isinstance(outcome.error, StageFailedError)
    assert "the store is busy" in outcome.text
    assert "started 3 times (cluster.retries)" in outcome.text
    assert len(here.cluster.made) == 3
    assert here.cluster.jobs() == here.cluster.pods() == []


def test_a_wrong_input_is_said_in_the_stages_own_words_and_not_retried(scene):
    report = ErrorReport("InputError", 2, "records.jsonl: line 7: no messages")
    here = scene([Pod(ends=8, code=2, report=report), WORKS])
    outcome = here.launch(here.job())

    assert isinstance(outcome.error, InputError)
    assert outcome.text.startswith("records.jsonl: line 7: no messages\n")
    assert len(here.cluster.made) == 1
    assert here.cluster.jobs() == here.cluster.pods() == []


def test_a_pod_that_is_deleted_from_outside_restarts_the_gang(scene):
    here = scene([Pod(ends=60), Pod(ends=8, vanishes=True, lines=("step 9",))], WORKS)
    outcome = here.launch(here.job())

    assert outcome.error is None
    assert len(here.cluster.made) == 2
    assert any("deleted from outside" in text and "step 9" in text for text in outcome.said)


EVICTED = {"reason": "Evicted", "message": "The node was low on memory."}
TOO_LARGE = {"reason": "Evicted", "message": 'Usage of EmptyDir "scratch" exceeds the limit "5Gi"'}


@pytest.mark.parametrize(
    ("pod", "restarts", "said"),
    [
        (Pod(ends=8, code=137, status=EVICTED), 1, "The node was low on memory"),
        (Pod(ends=8, code=137, status=TOO_LARGE), 0, "cluster.scratch"),
        (Pod(ends=8, code=137, reason="OOMKilled"), 0, "cluster.memory"),
        (Pod(ends=8, code=137), 1, "killed from outside by signal 9"),
        (Pod(ends=8, code=1, lines=("ValueError: bad batch",)), 0, "ValueError: bad batch"),
        (
            Pod(ends=8, code=1, report=ErrorReport("KilledError", 1, "sft was killed by SIGKILL")),
            1,
            "sft was killed by SIGKILL",
        ),
    ],
)
def test_how_a_pod_died_decides_whether_the_gang_restarts(scene, pod, restarts, said):
    here = scene([WORKS, pod], WORKS)
    outcome = here.launch(here.job())

    assert len(here.cluster.made) == 1 + restarts
    assert (outcome.error is None) == bool(restarts)
    assert said in "\n".join([*outcome.said, outcome.text])


# Adopted, refused, raced


def test_a_live_job_of_the_same_spec_is_adopted(scene):
    here = scene(LASTS)
    job = here.job()
    here.leave(job)
    before = here.cluster.jobs()[0]["metadata"]["uid"]
    outcome = here.launch(other_run(job))

    assert outcome.error is None
    (there,) = here.cluster.jobs()
    assert there["metadata"]["uid"] == before
    assert runs_of(there) == ["run-1", "run-2"]
    owners = [o["uid"] for o in there["metadata"]["ownerReferences"]]
    assert owners == ["uid-run-1", "uid-run-2"]
    assert "which is there already" in outcome.said[0]


def test_a_live_job_of_another_spec_is_refused_with_what_differs(scene):
    here = scene(LASTS)
    here.leave(here.job())
    outcome = here.launch(here.job(run="run-2", memory="112Gi"))

    assert isinstance(outcome.error, InputError)
    assert "resources.requests.memory: 64Gi, wanted 112Gi" in outcome.text
    assert "kubectl -n team delete pytorchjobs sft-0123456789abcdef-0" in outcome.text
    assert len(here.cluster.jobs()) == 1


def test_two_launchers_that_make_the_job_at_once_share_it(scene):
    here = scene(WORKS)
    job = here.job()
    rival = here.cluster.api()

    first = functools.partial(claim, other_run(job), rival, lambda _: None)
    here.cluster.before("POST", r"/pytorchjobs$", first)
    outcome = here.launch(job)

    assert outcome.error is None
    assert len(here.cluster.made) == 1
    assert runs_of(here.cluster.jobs()[0]) == ["run-2", "run-1"]


def test_a_job_that_changes_while_it_is_adopted_is_looked_at_again(scene):
    here = scene(LASTS)
    job = here.job()
    here.leave(job)

    def change() -> None:
        there = here.cluster.jobs()[0]
        here.cluster.put("pytorchjobs", there)

    here.cluster.before("PATCH", r"/pytorchjobs/", change, times=2)
    assert here.launch(job).error is None
    assert len(here.cluster.made) == 1


def test_a_failed_job_of_another_run_is_made_anew_once_its_launcher_has_seen_the_end(scene):
    here = scene(FAILS, WORKS)
    job = here.job()
    here.cluster.before("DELETE", r"/pytorchjobs/", here.cluster.kill)
    with pytest.raises(Killed):
        here.launch(job)
    ended = here.cluster.clock.time()
    outcome = here.launch(other_run(job))

    assert outcome.error is None
    assert len(here.cluster.made) == 2
    assert "removes what is left" in "\n".join(outcome.said)
    made = here.cluster.jobs()[0]["metadata"]["creationTimestamp"]
    assert made >= here.cluster.stamp(here.cluster.clock.time() - ended - 15)


def test_the_result_of_a_job_that_just_succeeded_is_shared(scene):
    here = scene(WORKS)
    job = here.job()
    assert here.launch(job).error is None
    assert here.launch(other_run(job)).error is None
    assert len(here.cluster.made) == 1
    here.cluster.clock.sleep(60)
    assert here.launch(other_run(job, "run-3")).error is None
    assert len(here.cluster.made) == 2


# Killed


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_launcher_killed_at_any_of_its_calls_is_followed_by_one_that_goes_on(scene, when):
    here = scene([Pod(ends=5, code=75, report=BUSY), WORKS], WORKS)
    whole = here.launch(here.job(retry_delay=1))
    assert whole.error is None
    calls = len(here.cluster.calls)
    for number in range(calls):
        here = scene([Pod(ends=5, code=75, report=BUSY), WORKS], WORKS)
        job = here.job(retry_delay=1)
        here.cluster.kill_at(number, when)
        with pytest.raises(Killed):
            here.launch(job)
        # Argo takes its time to make the next launcher pod.
        here.cluster.clock.sleep(7)
        outcome = here.launch(job)
        assert outcome.error is None, (number, outcome)
        assert len(here.cluster.made) == 2, (number, here.cluster.calls)
        here.cluster.close()


def test_a_launcher_killed_20_times_in_a_row_loses_nothing(scene):
    here = scene(Pod(ends=400, lines=LINES))
    job = here.job()
    for _ in range(20):
        here.leave(job)
        here.cluster.clock.sleep(5)
    assert here.launch(job).error is None
    assert len(here.cluster.made) == 1


# Deleted


def test_a_job_that_is_deleted_while_it_is_followed_is_an_error_that_says_so(scene):
    here = scene(WORKS)
    name = here.job().name
    remove = functools.partial(here.cluster.remove, "pytorchjobs", name)
    here.cluster.before("GET", rf"/pytorchjobs/{name}$", remove)
    outcome = here.launch(here.job())

    assert isinstance(outcome.error, StageFailedError)
    assert "was deleted while it was waited for" in outcome.text


def test_cancelling_a_run_deletes_its_job_and_waits_for_the_last_pod(scene):
    here = scene(Pod(ends=400, grace=15))
    here.leave(here.job())
    api = here.cluster.api()

    assert cancel_run(api, NAMESPACE, "another") == []
    assert cancel_run(api, NAMESPACE, "run-1") == [here.job().name]
    assert here.cluster.jobs() == here.cluster.pods() == []


def test_cancelling_a_run_leaves_a_job_that_another_run_waits_for(scene):
    here = scene(Pod(ends=400))
    for job in (here.job(), here.job(run="run-2")):
        here.leave(job)

    assert cancel_run(here.cluster.api(), NAMESPACE, "run-1") == []
    assert [runs_of(job) for job in here.cluster.jobs()] == [["run-2"]]


def test_a_job_that_is_adopted_at_the_moment_it_is_cancelled_goes_on(scene):
    here = scene(Pod(ends=400))
    job = here.job()
    here.leave(job)
    here.cluster.before("DELETE", r"/pytorchjobs/", lambda: here.leave(other_run(job)))
    assert cancel_run(here.cluster.api(), NAMESPACE, "run-1") == []
    assert [runs_of(there) for there in here.cluster.jobs()] == [["run-2"]]


# An API server that is down, busy or refuses


def test_an_api_server_that_stumbles_is_waited_for(scene):
    here = scene(WORKS)
    cluster = here.cluster
    cluster.answer("GET", r"/pytorchjobs\?", 429, headers={"Retry-After": "20"})
    cluster.answer("POST", r"/pytorchjobs$", 503)
    cluster.answer("GET", r"/pytorchjobs/", 410)
    cluster.answer("GET", r"/pods\?", 500, times=4)
    outcome = here.launch(here.job())

    assert outcome.error is None
    assert len(cluster.made) == 1
    assert 20 in cluster.clock.slept


def test_a_job_whose_creation_was_not_answered_is_not_made_twice(scene):
    here = scene(WORKS)
    here.cluster.drop("POST", r"/pytorchjobs$")
    assert here.launch(here.job()).error is None
    assert len(here.cluster.made) == 1


def test_an_api_server_that_is_gone_for_half_an_hour_is_given_up(scene):
    here = scene(Pod(ends=4000))
    here.cluster.answer("GET", r"/pytorchjobs/", 503, times=10_000)
    outcome = here.launch(here.job())

    assert isinstance(outcome.error, TransientError)
    assert "given up after 1" in outcome.text
    assert len(here.cluster.jobs()) == 1  # the gang goes on


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        (403, "pytorchjobs is forbidden: no rights", "which permissions are missing"),
        (403, "exceeded quota: gpus", "is refused by the cluster"),
        (422, "name is invalid", "is refused by the cluster"),
        (404, "the server could not find the requested resource", "Kubeflow training operator"),
    ],
)
def test_what_the_cluster_refuses_is_an_input_error(scene, status, message, said):
    here = scene(WORKS)
    here.cluster.answer("POST", r"/pytorchjobs$", status, message=message)
    outcome = here.launch(here.job())

    assert isinstance(outcome.error, InputError)
    assert message in outcome.text
    assert said in outcome.text

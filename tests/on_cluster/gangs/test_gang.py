"""The life of a gang on a real cluster: launched, adopted, refused, started again, cancelled."""

import dataclasses
import signal
from pathlib import Path
from typing import Literal

import pytest

from omnistage.cluster import claim
from omnistage.cluster.claim import runs_of
from omnistage.cluster.gang import cancel_run
from omnistage.cluster.settings import ClaimMount
from omnistage.errors import ErrorReport, InputError, StageFailedError
from tests.on_cluster.gangs.launch_kit import Launcher, Place, Witness
from tests.on_cluster.harness.cluster import Cluster
from tests.on_cluster.harness.proxy import proxy

pytestmark = pytest.mark.usefixtures("training_operator")

ONE_TO_FIVE = "for n in 1 2 3 4 5; do echo node $NODE line $n; sleep 0.3; done"
UNTIL_GO = "echo waiting; while [ ! -e /state/go ]; do sleep 0.2; done; echo done"
FAILS_ONCE = f"""
touch /state/node$NODE
{UNTIL_GO}
[ $NODE = 0 ] && mkdir /state/failed && echo store is busy && exit 75
exit 0
"""


@pytest.fixture
def place(cluster: Cluster, namespace: str, host_mounts: list[ClaimMount], tmp_path: Path) -> Place:
    return Place.make(cluster, namespace, host_mounts, tmp_path)


def test_a_pytorchjob_runs_and_the_lines_of_node_0_are_said_as_they_come(place: Place):
    job = place.job(ONE_TO_FIVE)
    outcome = place.launch(job)

    assert outcome.error is None
    assert outcome.lines == [f"node 0 line {n}" for n in range(1, 6)]
    assert [m["metadata"]["name"] for m in place.jobs(job)] == [job.name]


@pytest.mark.usefixtures("trainer_operator")
def test_a_trainjob_runs_and_the_lines_of_node_0_are_said_as_they_come(place: Place):
    place.use_training_runtime()
    job = place.job(ONE_TO_FIVE, backend="trainjob")
    outcome = place.launch(job)

    assert outcome.error is None
    assert outcome.lines == [f"node 0 line {n}" for n in range(1, 6)]


KILLED_AT: list[tuple[str, str, Literal["before", "after"]]] = [
    ("GET", r"/pytorchjobs\?", "before"),  # it looks what there is
    ("POST", r"/pytorchjobs$", "before"),  # it makes the job
    ("POST", r"/pytorchjobs$", "after"),  # the job is made, and the launcher does not know it
    ("PATCH", r"/pytorchjobs/", "before"),  # it adopts the job
    ("PATCH", r"/pytorchjobs/", "after"),
    ("GET", r"/log\?", "before"),  # it follows
    # From here on the job has failed with exit code 75.
    ("GET", r"/events\?", "after"),  # it asks why
    ("DELETE", r"/pytorchjobs/", "before"),  # it removes what failed
    ("DELETE", r"/pytorchjobs/", "after"),
    ("POST", r"/pytorchjobs$", "before"),  # it makes the job again
    ("POST", r"/pytorchjobs$", "after"),
]
FAILED_FROM = 6


def test_a_launcher_killed_at_each_of_its_steps_is_followed_by_one_that_goes_on(place: Place):
    job = place.job(FAILS_ONCE)
    log = place.folder / "launchers.log"
    witness = Witness(place.api, job)
    with proxy(place.cluster.kubeconfig) as front:
        kubeconfig = front.write_kubeconfig(place.folder / "kubeconfig", place.namespace)
        for number, (method, path, when) in enumerate(KILLED_AT):
            if number == FAILED_FROM:
                (place.state / "go").touch()
            hold = front.hold(method, path, when)
            launcher = Launcher(job, kubeconfig, log)
            assert hold.reached.wait(60), f"never came to {method} {path}:\n{launcher.said()}"
            launcher.kill()
            hold.release.set()
        last = Launcher(job, kubeconfig, log)
        assert last.process.wait(90) == 0, last.said()
    witness.close()

    assert witness.violations == []
    # One gang that failed, and the one that was made for it.
    assert len(witness.gangs) == 2
    assert "store is busy" in last.said()


def test_a_launcher_that_is_interrupted_says_that_the_job_goes_on_and_how_to_end_it(place: Place):
    job = place.job(UNTIL_GO, nodes=1)
    launcher = Launcher(job, place.cluster.kubeconfig, place.folder / "launcher.log")
    place.wait("it is followed", lambda: "waiting" in launcher.said())
    launcher.process.send_signal(signal.SIGINT)
    launcher.process.wait(60)

    assert "goes on without this launcher" in launcher.said()
    assert f"kubectl -n {place.namespace} delete pytorchjobs {job.name}" in launcher.said()
    (place.state / "go").touch()
    again = place.launch(job)
    assert again.error is None
    assert again.lines == ["waiting", "done"]


def test_a_gang_is_not_made_before_the_last_pod_of_the_one_before_it_is_gone(place: Place):
    job = place.job(
        """
        touch /state/node$NODE
        [ -e /state/go ] && exit 0
        trap '' TERM
        while :; do sleep 0.2; done
        """
    )
    restarted = dataclasses.replace(job, attempt=1)
    launcher = Launcher(restarted, place.cluster.kubeconfig, place.folder / "launcher.log")
    place.wait("both nodes train", lambda: len(list(place.state.iterdir())) == 2)
    # A launcher was killed when it had just deleted this gang.
    launcher.kill()
    kind_and_name = f"pytorchjobs/{restarted.name}"
    place.cluster.kubectl("delete", kind_and_name, "-n", place.namespace, "--wait=false")
    (place.state / "go").touch()
    witness = Witness(place.api, job)
    outcome = place.launch(job)
    witness.close()

    assert outcome.error is None
    assert witness.violations == []
    assert job.name in witness.gangs.values()


def test_two_runs_that_launch_the_same_stage_share_one_gang(place: Place):
    job = place.job(UNTIL_GO)
    other = dataclasses.replace(job, run="run-2")
    witness = Witness(place.api, job)
    first, second = place.launch_meanwhile(job), place.launch_meanwhile(other)
    place.wait(
        "both runs are noted",
        lambda: [sorted(runs_of(m)) for m in place.jobs(job)] == [["run-1", "run-2"]],
    )
    (place.state / "go").touch()

    assert first.result(60).error is None
    assert second.result(60).error is None
    witness.close()
    assert witness.violations == []
    assert len(witness.gangs) == 1
    assert first.result().lines == second.result().lines == ["waiting", "done"]


def test_a_live_job_with_other_settings_is_not_adopted_but_named_with_what_differs(place: Place):
    job = place.job(UNTIL_GO)
    running = place.launch_meanwhile(job)
    place.wait("the job is made", lambda: place.jobs(job))

    other = place.launch(place.job(UNTIL_GO, run="run-2", memory="112Mi"))
    (place.state / "go").touch()

    assert isinstance(other.error, InputError)
    assert job.name in other.text
    assert "resources.requests.memory: 96Mi, wanted 112Mi" in other.text
    assert f"kubectl -n {place.namespace} delete pytorchjobs {job.name}" in other.text
    assert running.result(60).error is None


def test_a_job_that_another_run_waited_for_is_made_anew_when_it_has_ended(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    job = place.job("echo $NODE")
    assert place.launch(job).error is None
    (before,) = place.jobs(job)

    # Just ended: it may well be the other run's launcher that has not seen it yet.
    assert place.launch(dataclasses.replace(job, run="run-2")).error is None
    assert [m["metadata"]["uid"] for m in place.jobs(job)] == [before["metadata"]["uid"]]

    monkeypatch.setattr(claim, "_NOTICE_SECONDS", 0.0)
    assert place.launch(dataclasses.replace(job, run="run-3")).error is None
    (after,) = place.jobs(job)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["metadata"]["name"] == job.name


@pytest.mark.parametrize("backend", ["pytorchjob", "trainjob"])
@pytest.mark.usefixtures("trainer_operator")
def test_a_transient_error_starts_the_whole_gang_again(place: Place, backend: str):
    place.use_training_runtime()
    witness = Witness(place.api, job := place.job(FAILS_ONCE, backend=backend))
    launched = place.launch_meanwhile(job)
    place.wait("both nodes train", lambda: len(list(place.state.iterdir())) == 2)
    (place.state / "go").touch()
    outcome = launched.result(120)
    witness.close()

    assert outcome.error is None
    assert witness.violations == []
    assert sorted(witness.gangs.values()) == [job.name, f"{job.name[:-1]}1"]
    assert any("store is busy" in text and "restart 1 of 3" in text for text in outcome.said)


def test_a_fault_that_does_not_pass_ends_the_job_after_its_retries(place: Place):
    job = place.job("echo store is busy; exit 75", nodes=1, retries=1)
    outcome = place.launch(job)

    assert isinstance(outcome.error, StageFailedError)
    assert "exit code 75" in outcome.text
    assert "store is busy" in outcome.text
    assert "started 2 times" in outcome.text
    assert place.leftovers(job) == []


def test_what_a_stage_calls_a_wrong_input_is_one_and_is_not_tried_again(place: Place):
    report = ErrorReport("InputError", 2, "records.jsonl: line 7: no messages").to_json().decode()
    job = place.job(f"echo '{report}' > $OMNISTAGE_TERMINATION_LOG; exit 2", nodes=1)
    outcome = place.launch(job)

    assert isinstance(outcome.error, InputError)
    assert outcome.text.startswith("records.jsonl: line 7: no messages")
    assert place.leftovers(job) == []


@pytest.mark.usefixtures("trainer_operator")
@pytest.mark.parametrize("backend", ["pytorchjob", "trainjob"])
def test_cancelling_a_run_ends_its_jobs_to_the_last_pod(place: Place, backend: str):
    place.use_training_runtime()
    job = place.job(UNTIL_GO, backend=backend)
    launcher = Launcher(job, place.cluster.kubeconfig, place.folder / "launcher.log")
    place.wait("its pods are there", lambda: len(place.pods(job)) == 2)
    launcher.kill()

    assert cancel_run(place.api, place.namespace, "another") == []
    assert len(place.leftovers(job)) == 3
    assert cancel_run(place.api, place.namespace, job.run) == [job.name]
    assert place.leftovers(job) == []


def test_cancelling_a_run_leaves_a_job_that_another_run_waits_for(place: Place):
    job = place.job(UNTIL_GO, nodes=1)
    other = dataclasses.replace(job, run="run-2")
    launcher = Launcher(job, place.cluster.kubeconfig, place.folder / "launcher.log")
    place.wait("the job is made", lambda: place.jobs(job))
    launcher.kill()
    waiting = place.launch_meanwhile(other)
    place.wait("both runs are noted", lambda: len(runs_of(place.jobs(job)[0])) == 2)

    assert cancel_run(place.api, place.namespace, "run-1") == []
    assert [runs_of(m) for m in place.jobs(job)] == [["run-2"]]
    (place.state / "go").touch()
    assert waiting.result(60).error is None

"""Why gangs fail, told from pods and events as a real API server gives them."""

from typing import Any

import pytest

from omnistage.errors import InputError, StageFailedError
from omnistage.launch.blocked import StartWatch, waits_for
from omnistage.launch.failures import PodView, explain

JOB = "sft-0123456789abcdef-0"
NOON = "2026-11-21T12:00:{:02}Z"


def master(*, at: int = 0, rank: int = 0, lines: tuple[str, ...] = (), **status: Any) -> PodView:
    """Node 0's pod; ``at`` is the second after noon of its last line."""
    name = f"{JOB}-master-0" if rank == 0 else f"{JOB}-worker-{rank - 1}"
    metadata = {"name": name, "uid": f"uid-{rank}", **status.pop("metadata", {})}
    timed = [(1795262400.0 + at, line) for line in lines]
    gone = status.pop("gone_at", None)
    return PodView({"metadata": metadata, "status": status}, rank, timed, gone)


def worker(index: int = 0, **more: Any) -> PodView:
    return master(rank=index + 1, **more)


def terminated(code: int, second: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    """The part of a pod's status that says how its container ended."""
    end = {"exitCode": code, "reason": reason, "finishedAt": NOON.format(second)}
    if message:
        end["message"] = message
    state = {"terminated": end}
    return {
        "phase": "Succeeded" if code == 0 else "Failed",
        "containerStatuses": [{"name": "pytorch", "image": "local/x:1", "state": state}],
    }


def running() -> dict[str, Any]:
    state = {"running": {"startedAt": NOON.format(0)}}
    return {"phase": "Running", "containerStatuses": [{"name": "pytorch", "state": state}]}


def deleted(second: int, grace: int = 30) -> dict[str, Any]:
    """Metadata of a pod whose deletion was asked for at a second after noon, plus the grace."""
    total = second + grace
    stamp = f"2026-11-21T12:{total // 60:02}:{total % 60:02}Z"
    return {"metadata": {"deletionTimestamp": stamp, "deletionGracePeriodSeconds": grace}}


def warning(about: str, reason: str, message: str) -> dict[str, Any]:
    return {"involvedObject": {"name": about}, "reason": reason, "message": message}


# --- what is blamed and what is retried -----------------------------------------------------


@pytest.mark.parametrize(
    ("status", "lines", "retried", "said"),
    [
        (terminated(1, 5), ("ValueError: bad batch",), False, "exit code 1"),
        (terminated(75, 5), ("sft: error: the store is busy",), True, "the store is busy"),
        (terminated(137, 5), ("step 7",), True, "killed from outside by signal 9"),
        (terminated(143, 5), ("step 7",), True, "killed from outside by signal 15"),
        (terminated(137, 5, "OOMKilled"), ("step 7",), False, "cluster.memory"),
        (terminated(1, 5, "OOMKilled"), ("step 7",), False, "per_device_batch_size"),
        (terminated(139, 5), ("Segmentation fault",), False, "exit code 139"),
        (
            terminated(128, 5, "StartError", 'exec: "pyton": not found'),
            (),
            False,
            "could not start: exec",
        ),
        (terminated(137, 5, "ContainerStatusUnknown"), (), True, "lost with its node"),
        (
            terminated(1, 5),
            ("sft: error: sft was killed by SIGKILL; its log is /scratch/log",),
            True,
            "killed from outside",
        ),
        (
            terminated(1, 5),
            ("[rank1]: Watchdog caught collective operation timeout: WorkNCCL(...)",),
            True,
            "Watchdog caught",
        ),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."},
            (),
            True,
            "Evicted: The node was low on memory",
        ),
        (
            {
                "phase": "Failed",
                "reason": "Evicted",
                "message": 'Usage of EmptyDir volume "scratch" exceeds the limit "500Gi".',
            },
            (),
            False,
            "cluster.scratch",
        ),
        ({"phase": "Failed", "reason": "NodeShutdown", "message": "shut down"}, (), True, "Shut"),
        ({"phase": "Failed", "reason": "OutOfcpu", "message": "Node did not"}, (), True, "OutOf"),
        ({"phase": "Failed", "reason": "UnexpectedAdmissionError"}, (), True, "Unexpected"),
        ({"phase": "Unknown"}, (), True, "lost with its node"),
        (
            {
                **terminated(143, 5),
                "conditions": [
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "PreemptionByScheduler",
                        "message": "default-scheduler: preempting to accommodate a higher one",
                        "lastTransitionTime": NOON.format(4),
                    }
                ],
            },
            ("step 7",),
            True,
            "PreemptionByScheduler",
        ),
    ],
)
def test_how_a_pod_ended_decides_whether_the_gang_starts_again(status, lines, retried, said):
    failure = explain(JOB, [worker(lines=lines, **status), master(**running())], [])

    assert failure.retryable is retried
    assert isinstance(failure.error, StageFailedError)
    assert said in str(failure.error)
    assert "node 1" in str(failure.error)
    assert f"{JOB}-worker-0" in str(failure.error)


def test_exit_2_is_an_input_error_with_the_stages_own_message():
    lines = ("loads", "sft: error: records.jsonl: line 7: no messages", "give them")
    failure = explain(JOB, [master(lines=lines, **terminated(2, 5))], [])

    assert isinstance(failure.error, InputError)
    assert not failure.retryable
    assert str(failure.error).startswith("records.jsonl: line 7: no messages\ngive them\n")
    assert f"{JOB}-master-0" in str(failure.error)


def test_the_pod_that_ended_first_is_blamed():
    pods = [
        master(lines=("sft: error: later",), **terminated(1, 9)),
        worker(0, lines=("fine",), **terminated(0, 3)),
        worker(1, lines=("sft: error: sooner",), **terminated(1, 5)),
    ]
    failure = explain(JOB, pods, [])

    assert "node 2" in str(failure.error)
    assert "sooner" in str(failure.error)
    assert "first" in str(failure.error)
    assert "later" not in str(failure.error)


def test_within_one_second_the_log_tells_who_was_first():
    pods = [
        master(at=5, lines=("sft: error: second",), **terminated(1, 5)),
        worker(at=4, lines=("sft: error: first one",), **terminated(1, 5)),
    ]
    assert "first one" in str(explain(JOB, pods, []).error)


def test_a_peer_that_dies_of_the_lost_connection_is_not_the_cause():
    lost = "sft: error: lost another node: Connection closed by peer [198.18.0.7]:2911"
    pods = [
        # torchrun on the faulty node takes longer to give up than the connection takes to break.
        master(lines=(lost,), **terminated(75, 5)),
        worker(lines=("sft: error: CUDA error: an illegal memory access",), **terminated(1, 8)),
    ]
    failure = explain(JOB, pods, [])

    assert "illegal memory access" in str(failure.error)
    assert not failure.retryable


def test_a_pod_that_wrote_its_error_but_was_still_ending_is_blamed_for_it():
    lost = "sft: error: lost another node: Connection closed by peer [198.18.0.7]:2911"
    pods = [
        master(lines=(lost,), **terminated(75, 5)),
        worker(at=3, lines=("ValueError: bad batch",), **deleted(6), **running()),
    ]
    failure = explain(JOB, pods, [])

    assert "node 1" in str(failure.error)
    assert "ValueError: bad batch" in str(failure.error)
    assert not failure.retryable


def test_what_a_pod_writes_when_it_is_deleted_with_its_job_is_not_the_cause():
    lost = "sft: error: lost another node: Connection closed by peer [198.18.0.7]:2911"
    pods = [
        master(lines=(lost,), **terminated(75, 5)),
        worker(at=7, lines=("SignalException: got signal: 15",), **deleted(6), **running()),
    ]
    failure = explain(JOB, pods, [])

    assert "node 0" in str(failure.error)
    assert failure.retryable


def test_when_all_lost_each_other_the_gang_starts_again():
    lost = "RuntimeError: [enforce fail] Gloo timed out waiting for peers"
    pods = [
        master(lines=(lost,), **terminated(1, 6)),
        worker(lines=(lost,), **terminated(1, 5)),
    ]
    assert explain(JOB, pods, []).retryable


def test_pods_that_were_deleted_because_the_job_had_failed_are_not_the_cause():
    pods = [
        master(lines=("step 9",), **deleted(5), **terminated(143, 5)),
        worker(lines=("sft: error: bad batch",), **terminated(1, 5)),
    ]
    failure = explain(JOB, pods, [])

    assert "bad batch" in str(failure.error)
    assert not failure.retryable


def test_a_pod_that_was_deleted_before_the_others_failed_is_the_cause():
    lost = "sft: error: lost another node: Connection reset by peer"
    pods = [
        master(lines=(lost,), **terminated(75, 9)),
        worker(lines=("step 9",), **deleted(5), **running()),
    ]
    failure = explain(JOB, pods, [])

    assert failure.retryable
    assert "node 1" in str(failure.error)
    assert "deleted from outside" in str(failure.error)


def test_a_pod_that_vanished_without_a_word_is_the_cause():
    pods = [master(**running()), worker(lines=("step 9",), gone_at=1795262405.0, **running())]
    failure = explain(JOB, pods, [])

    assert failure.retryable
    assert "deleted from outside" in str(failure.error)
    assert "step 9" in str(failure.error)


def test_of_pods_that_were_deleted_the_one_that_is_gone_already_is_the_cause():
    pods = [
        master(**deleted(5), **running()),
        worker(gone_at=1795262408.0, **running()),
    ]
    assert "node 1" in str(explain(JOB, pods, []).error)


def test_pods_that_were_deleted_in_the_same_second_are_all_named():
    pods = [master(**deleted(5), **running()), worker(**deleted(5, grace=3), **running())]
    text = str(explain(JOB, pods, []).error)

    assert f"{JOB}-master-0" in text
    assert f"{JOB}-worker-0" in text


def test_a_pod_that_others_missed_and_that_is_gone_is_the_cause():
    lost = "sft: error: lost another node: Connection reset by peer"
    pods = [
        master(lines=(lost,), **terminated(75, 5)),
        worker(gone_at=1795262408.0, **running()),
    ]
    assert "node 1" in str(explain(JOB, pods, []).error)


def test_a_pod_that_is_gone_after_another_failed_by_itself_is_not_the_cause():
    pods = [
        master(lines=("ValueError: bad batch",), **terminated(1, 5)),
        worker(gone_at=1795262408.0, **running()),
    ]
    assert "bad batch" in str(explain(JOB, pods, []).error)


def test_the_last_lines_are_those_that_the_kubelet_kept_when_no_log_was_read():
    pods = [master(**terminated(1, 5, message="step 1\nOSError: no space\n"))]
    assert "OSError: no space" in str(explain(JOB, pods, []).error)


def test_warnings_about_the_pod_are_told_and_others_are_not():
    pods = [master(lines=("x",), **terminated(1, 5)), worker(**running())]
    events = [
        warning(f"{JOB}-master-0", "Unhealthy", "device is gone"),
        warning(f"{JOB}-worker-0", "FailedMount", "of the other pod"),
    ]
    text = str(explain(JOB, pods, events).error)

    assert "Unhealthy: device is gone" in text
    assert "of the other pod" not in text


def test_a_job_that_failed_without_a_failed_pod_says_so():
    failure = explain(JOB, [master(**running())], [warning(JOB, "Odd", "who knows")])
    assert "none of its pods says why" in str(failure.error)
    assert "who knows" in str(failure.error)


# --- pods that never start ------------------------------------------------------------------


def waiting(reason: str, message: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {
        "metadata": {"name": f"{JOB}-master-0"},
        "status": {
            "phase": "Pending",
            "containerStatuses": [{"name": "pytorch", "image": "local/none:1", "state": state}],
        },
    }


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("ErrImagePull", 'failed to resolve "local/none:1": docker.io/local/none:1: not found'),
        ("ImagePullBackOff", 'Back-off pulling image "local/none:1": pull access denied'),
        ("InvalidImageName", "Failed to apply default image tag"),
        ("ErrImageNeverPull", "image is not present with pull policy of Never"),
    ],
)
def test_an_image_that_does_not_exist_is_a_wrong_input_at_once(reason, message):
    failure = StartWatch(JOB).look([waiting(reason, message)], 1, [], 0.0)

    assert failure is not None
    assert isinstance(failure.error, InputError)
    assert "local/none:1" in str(failure.error)
    assert message in str(failure.error)


def test_the_reason_of_a_back_off_is_taken_from_the_event():
    watch = StartWatch(JOB)
    pod = waiting("ImagePullBackOff", 'Back-off pulling image "local/none:1"')
    said = 'Failed to pull image "local/none:1": manifest unknown'
    failure = watch.look([pod], 1, [warning(f"{JOB}-master-0", "Failed", said)], 0.0)

    assert failure is not None
    assert isinstance(failure.error, InputError)
    assert "manifest unknown" in str(failure.error)


def test_a_registry_that_does_not_answer_gets_a_minute():
    watch = StartWatch(JOB)
    pod = waiting("ErrImagePull", "dial tcp 10.0.0.1:443: i/o timeout")

    assert watch.look([pod], 1, [], 0.0) is None
    assert watch.look([pod], 1, [], 59.0) is None
    failure = watch.look([pod], 1, [], 61.0)
    assert failure is not None
    assert isinstance(failure.error, StageFailedError)
    assert not failure.retryable
    assert "i/o timeout" in str(failure.error)


def test_a_missing_secret_is_named():
    watch = StartWatch(JOB)
    pod = waiting("CreateContainerConfigError", 'secret "omnistage-hub" not found')

    assert watch.look([pod], 1, [], 0.0) is None
    failure = watch.look([pod], 1, [], 10.0)
    assert failure is not None
    assert isinstance(failure.error, InputError)
    assert "omnistage-hub" in str(failure.error)


def test_a_missing_claim_is_named():
    watch = StartWatch(JOB)
    said = '0/1 nodes are available: persistentvolumeclaim "data" not found.'
    condition = {"type": "PodScheduled", "status": "False", "message": said}
    pod = {
        "metadata": {"name": f"{JOB}-master-0"},
        "status": {"phase": "Pending", "conditions": [condition]},
    }
    assert watch.look([pod], 1, [], 0.0) is None
    failure = watch.look([pod], 1, [], 30.0)
    assert failure is not None
    assert isinstance(failure.error, InputError)
    assert 'persistentvolumeclaim "data" not found' in str(failure.error)


def test_a_quota_that_stays_exceeded_is_named():
    watch = StartWatch(JOB)
    said = (
        f'Error creating: pods "{JOB}-master-0" is forbidden: exceeded quota: gpus, requested: '
        "requests.nvidia.com/gpu=4, used: requests.nvidia.com/gpu=6, limited: 8"
    )
    events = [warning(JOB, "FailedCreatePod", said)]

    # The last gang's pods are counted for a moment after they are gone.
    assert watch.look([], 1, events, 0.0) is None
    failure = watch.look([], 1, events, 30.0)
    assert failure is not None
    assert isinstance(failure.error, InputError)
    assert "ResourceQuota 'gpus'" in str(failure.error)


def test_a_quota_that_was_exceeded_for_a_moment_is_forgotten_when_the_pods_are_there():
    watch = StartWatch(JOB)
    events = [warning(JOB, "FailedCreatePod", "is forbidden: exceeded quota: gpus, requested: 4")]
    assert watch.look([], 1, events, 0.0) is None
    assert watch.look([waiting("ContainerCreating", "")], 1, events, 30.0) is None


def test_pods_that_the_namespaces_standard_refuses_are_a_wrong_input():
    said = 'Error creating: pods "x" is forbidden: violates PodSecurity "restricted:latest": x'
    failure = StartWatch(JOB).look([], 1, [warning(JOB, "FailedCreatePod", said)], 0.0)
    assert failure is not None
    assert isinstance(failure.error, InputError)
    assert "PodSecurity" in str(failure.error)


def test_a_pod_that_is_just_being_made_is_waited_for():
    assert StartWatch(JOB).look([waiting("ContainerCreating", "")], 2, [], 1e6) is None


def test_what_a_pending_gang_waits_for_is_told():
    said = "0/9 nodes are available: 9 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "message": said}
    unplaced = {"metadata": {"name": "a"}, "status": {"conditions": [condition]}}

    assert said in waits_for([waiting("ContainerCreating", ""), unplaced], 2, [])
    assert "ContainerCreating" in waits_for([waiting("ContainerCreating", "")], 1, [])
    assert waits_for([], 2, []).startswith("0 of 2 pods")

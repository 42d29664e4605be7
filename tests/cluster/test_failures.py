"""Why gangs fail, told from pods and events as a real API server gives them."""

import pytest

from omnistage.cluster.failures import explain
from omnistage.errors import InputError, StageFailedError
from tests.cluster.launch_pods import (
    JOB,
    NOON,
    deleted,
    master,
    reported,
    running,
    terminated,
    warning,
    worker,
)


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
            reported(1, 5, "KilledError", "sft was killed by SIGKILL"),
            ("whatever the log says",),
            True,
            "since one of its processes was killed from outside; its log ends:\nsft was killed",
        ),
        (
            reported(75, 5, "LostPeerError", "sft lost another node of its job"),
            ("ValueError: in the log",),
            True,
            "sft lost another node of its job",
        ),
        (
            # What an error's text happens to say does not decide.
            reported(1, 5, "StageFailedError", "clip.mp4: Connection reset by peer"),
            ("ValueError: in the log",),
            False,
            "clip.mp4: Connection reset by peer",
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
    said = reported(2, 5, "InputError", "records.jsonl: line 7: no messages\ngive them")
    failure = explain(JOB, [master(lines=("loads", "sft: error: …"), **said)], [])

    assert isinstance(failure.error, InputError)
    assert not failure.retryable
    assert str(failure.error).startswith("records.jsonl: line 7: no messages\ngive them\n")
    assert f"{JOB}-master-0" in str(failure.error)


def test_a_pod_that_died_before_its_program_could_report_is_judged_by_its_log():
    lines = ("step 7", "ImportError: libcuda.so.1")
    failure = explain(JOB, [master(lines=lines, **terminated(2, 5))], [])

    assert isinstance(failure.error, InputError)
    assert "ImportError: libcuda.so.1" in str(failure.error)


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
        worker(seen_at=1795262404.0, gone_at=1795262408.0, **running()),
    ]
    assert "node 1" in str(explain(JOB, pods, []).error)


def test_a_pod_that_was_alive_after_another_had_been_deleted_is_not_the_cause():
    # The operator deletes the others when one has ended; they may be gone at the next look.
    pods = [
        master(seen_at=1795262408.0, gone_at=1795262409.0, **running()),
        worker(**deleted(5, grace=3), **terminated(137, 8)),
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

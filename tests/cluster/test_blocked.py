"""Why gangs never start, told from pods and events as a real API server gives them."""

from typing import Any

import pytest

from omnistage.cluster.blocked import StartWatch, waits_for
from omnistage.errors import InputError, StageFailedError
from tests.cluster.launch_pods import JOB, warning


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

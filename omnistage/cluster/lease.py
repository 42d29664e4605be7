"""The lease on a training job: nothing depends on the exit task alone.

Kubeflow Pipelines may end a run without its exit task: when a run is terminated, Argo fails a pod
that is still pending, the exit task's too. So the launcher that follows a job renews an annotation
on it, and the reaper (:mod:`omnistage.cluster.reaper`) deletes a job whose lease has run out once
the runs that own it have ended. A job that no run owns, started with ``omnistage launch``, is left
alone: it is meant to go on without its launcher.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from omnistage.cluster.api import WORKFLOWS, Api, ApiError, seconds
from omnistage.cluster.jobs.job import LEASE_ANNOTATION, Backend

LEASE_SECONDS = 600.0
"""How long a job goes on without a launcher once its run has ended."""
RENEW_SECONDS = 120.0
_ENDED = {"Succeeded", "Failed", "Error"}


def lease_until(api: Api) -> dict[str, str]:
    """Return the annotation of a lease that begins now."""
    until = datetime.fromtimestamp(api.now() + LEASE_SECONDS, UTC)
    return {LEASE_ANNOTATION: until.strftime("%Y-%m-%dT%H:%M:%SZ")}


def renew(api: Api, backend: Backend, manifest: Mapping[str, Any]) -> None:
    """Renew the lease on a job; one that is gone or may not be changed is left as it is."""
    metadata = manifest["metadata"]
    change = {"metadata": {"uid": metadata["uid"], "annotations": lease_until(api)}}
    try:
        api.patch(backend, metadata["namespace"], metadata["name"], change)
    except ApiError as e:
        if e.status not in (403, 404, 409, 422):
            raise


def has_lapsed(manifest: Mapping[str, Any], now: float) -> bool:
    """Return whether the lease on a job has run out; a job without one counts from its creation."""
    metadata = manifest["metadata"]
    until = seconds((metadata.get("annotations") or {}).get(LEASE_ANNOTATION))
    made = seconds(metadata["creationTimestamp"]) or 0.0
    return now > (until if until is not None else made + LEASE_SECONDS)


def runs_have_ended(api: Api, manifest: Mapping[str, Any]) -> bool:
    """Return whether runs own a job and every one of them has ended or is gone."""
    metadata = manifest["metadata"]
    owners = [o for o in metadata.get("ownerReferences") or [] if o["kind"] == "Workflow"]
    for owner in owners:
        found = api.get(WORKFLOWS, metadata["namespace"], owner["name"])
        if found and found["metadata"]["uid"] == owner["uid"]:
            phase = found.get("status", {}).get("phase", "")
            if phase not in _ENDED:
                return False
    return bool(owners)

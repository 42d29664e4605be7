"""The life of a training job on Kubernetes: launch or adopt it, follow it, restart it, end it.

The operator restarts nothing. A gang that fails with a transient error is deleted to its last pod
and made anew under the next attempt's name; training goes on from the last checkpoint in the store.
"""

import sys
from collections.abc import Callable
from dataclasses import replace

from omnistage.cluster.api import Api, ApiError
from omnistage.cluster.claim import claim, list_jobs, remove, runs_of, wait_gone
from omnistage.cluster.jobs.backends import backend_of
from omnistage.cluster.jobs.job import KEY_LABEL, RUNS_ANNOTATION, ClusterJob
from omnistage.cluster.watch import GangWatcher
from omnistage.events import Events
from omnistage.redact import redact

_LONGEST_DELAY = 600.0
_FINISHED = ("succeeded", "failed")


def run_gang(
    job: ClusterJob, api: Api, events: Events, *, say: Callable[[str], None] | None = None
) -> None:
    """Run a stage's job on the cluster to its end.

    Any number of launchers may do this for one stage key, in one run or several: there is one gang
    at most. A launcher that is killed leaves the job running; the next one adopts it.

    Args:
        job: What to run; ``attempt`` is where counting starts, usually 0.
        api: The cluster.
        events: Told what happens to the job.
        say: Given the lines of node 0 as they come; by default they go to stderr.

    Raises:
        InputError: If the job can never run as it is, or a stage ended with exit code 2.
        StageFailedError: If it failed, took too long or was deleted; why is in the message.
        TransientError: If the API server cannot be reached for half an hour.
    """
    backend = backend_of(job.settings)
    say = say or (lambda line: print(redact(line), file=sys.stderr, flush=True))
    try:
        while True:
            job, manifest = claim(job, api, events.message)
            failure = GangWatcher(job, manifest, api, backend, events, say).wait()
            if failure is None:
                return
            remove(api, backend, manifest)
            if not failure.retryable:
                raise failure.error
            if job.attempt >= job.settings.retries:
                tried = f"It was started {job.attempt + 1} times (cluster.retries)."
                raise type(failure.error)(f"{failure.error}\n{tried}")
            delay = min(job.settings.retry_delay * 2**job.attempt, _LONGEST_DELAY)
            events.warn(
                f"{failure.error}\nThis may pass: the whole gang starts again in {delay:.0f} s, "
                f"restart {job.attempt + 1} of {job.settings.retries}"
            )
            api.clock.sleep(delay)
            job = replace(job, attempt=job.attempt + 1)
    except KeyboardInterrupt:
        end = f"kubectl -n {job.namespace} delete {backend.plural} {job.name}"
        events.message(
            f"{backend.kind} {job.namespace}/{job.name} goes on without this launcher; the same "
            f"command follows it again, `{end}` ends it"
        )
        raise


def unfinished_jobs(api: Api, namespace: str, run: str) -> list[str]:
    """Return the unfinished jobs that a run waits for, as kubectl takes them: ``kind/name``."""
    return [
        f"{backend.plural}/{manifest['metadata']['name']}"
        for backend, manifest in list_jobs(api, namespace, KEY_LABEL)
        if run in runs_of(manifest) and backend.status(manifest).phase not in _FINISHED
    ]


def cancel_run(api: Api, namespace: str, run: str) -> list[str]:
    """Delete the unfinished jobs that only one run waits for, and return their names.

    A job that other runs wait for too goes on without this one. Returns when the last pod of what
    was deleted is gone.
    """
    ended = []
    while True:
        changed = False
        for backend, manifest in list(list_jobs(api, namespace, KEY_LABEL)):
            runs, metadata = runs_of(manifest), manifest["metadata"]
            if run not in runs or backend.status(manifest).phase in _FINISHED:
                continue
            name, version = metadata["name"], metadata["resourceVersion"]
            others = ",".join(r for r in runs if r != run)
            try:
                if others:
                    note = {"resourceVersion": version, "annotations": {RUNS_ANNOTATION: others}}
                    api.patch(backend, namespace, name, {"metadata": note})
                    continue
                if "deletionTimestamp" not in metadata:
                    # Only as it was seen: another run may adopt it at this very moment.
                    api.delete(backend, namespace, name, resource_version=version)
            except ApiError as e:
                if e.status not in (404, 409):
                    raise
                changed = True
                continue
            ended.append((backend, name, metadata["uid"]))
        if not changed:
            break
    for backend, name, uid in ended:
        wait_gone(api, backend, namespace, name, uid)
    return list(dict.fromkeys(name for _, name, _ in ended))

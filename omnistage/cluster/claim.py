"""Get hold of the one job of a stage key: adopt it, make it, or say why not.

The names of jobs come from stage key and attempt, so the API server itself sees to it that there
are never two of one name; what is left of earlier attempts is deleted to the last pod before the
next one is made. A launcher may be killed between any two of these calls: the next one looks
first, and goes on from what it finds.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from omnistage.cluster.api import PODS, Api, ApiError, Kind, seconds
from omnistage.cluster.jobs.backends import BACKENDS, backend_of
from omnistage.cluster.jobs.job import (
    ATTEMPT_LABEL,
    HASH_ANNOTATION,
    KEY_LABEL,
    RUNS_ANNOTATION,
    STAGE_LABEL,
    Backend,
    ClusterJob,
)
from omnistage.cluster.lease import lease_until
from omnistage.errors import InputError, StageFailedError

_END_SECONDS = 1800.0
"""How long the pods of a deleted job may take to end."""
_PAUSE = 0.5
_QUIET = 3
"""Consecutive empty polls before pods count as gone."""
_NOTICE_SECONDS = 20.0
"""How long another run's launcher may take to see that its job has ended."""


def claim(
    job: ClusterJob, api: Api, say: Callable[[str], None]
) -> tuple[ClusterJob, dict[str, Any]]:
    """Return the job that computes a stage key, and the attempt that it is.

    A live one with the same spec is adopted, and this run noted in it. A finished one is this
    attempt's outcome if this run waited for it; any other is deleted and the job made anew, once
    the launcher that waited for it has had the time to see its end.

    Args:
        job: What to run; of its attempts, this one is made if there is none.
        api: The cluster.
        say: Told what was found.

    Raises:
        InputError: If a live job of this key has another spec, or the cluster refuses the job.
    """
    backend = backend_of(job.settings)
    while True:
        found = list(_jobs_of(job, api, backend))
        live = [(b, m) for b, m in found if not _finished(b, m) and not _deleted(m)]
        for other, manifest in live:
            _same_or_refused(job, backend, other, manifest)
        if live:
            adopted = _adopt(job, api, backend, live[0][1])
            if adopted:
                say(f"follows {_named(backend, adopted)}, which is there already")
                return replace(job, attempt=attempt_of(adopted)), adopted
            continue
        own = [m for b, m in found if b is backend and _is_outcome(job, backend, m)]
        if own:
            latest = max(own, key=attempt_of)
            say(f"finds that {_named(backend, latest)} has ended")
            return replace(job, attempt=attempt_of(latest)), latest
        fresh = [(b, m) for b, m in found if _just_finished(b, m, api.now())]
        done = [m for b, m in fresh if b is backend and b.status(m).phase == "succeeded"]
        won = [m for m in done if _same(job, backend, m)]
        if won:
            return replace(job, attempt=attempt_of(won[0])), won[0]
        if fresh:
            api.clock.sleep(_PAUSE)
            continue
        for other, manifest in found:
            say(f"removes what is left of {_named(other, manifest)}")
            remove(api, other, manifest)
        # Its launcher may have been killed when it had just deleted the last attempt.
        for names in _pods_left(api, job.namespace, _labels(job)):
            if not names:
                break
        made = _make(job, api, backend)
        if made:
            say(f"made {_named(backend, made)}")
            return job, made


def remove(api: Api, backend: Backend, manifest: Mapping[str, Any]) -> None:
    """Delete a job and wait until it and its last pod are gone.

    Raises:
        StageFailedError: If a pod does not end within half an hour.
    """
    metadata = manifest["metadata"]
    name, namespace, uid = metadata["name"], metadata["namespace"], metadata["uid"]
    api.delete(backend, namespace, name, uid=uid)
    wait_gone(api, backend, namespace, name, uid)


def wait_gone(api: Api, backend: Backend, namespace: str, name: str, uid: str) -> None:
    """Wait until a deleted job and its last pod are gone.

    Raises:
        StageFailedError: If a pod does not end within half an hour.
    """
    quiet = 0
    for names in _pods_left(api, namespace, backend.pod_selector(name)):
        now = api.get(backend, namespace, name)
        if now is not None and now["metadata"]["uid"] != uid:
            return
        # A controller that does not know yet that its job is gone may still make a pod.
        quiet = quiet + 1 if now is None and not names else 0
        if quiet == _QUIET:
            return


def _pods_left(api: Api, namespace: str, labels: str) -> Iterator[list[str]]:
    """Yield the names of the pods there are, twice a second for half an hour."""
    began = api.clock.monotonic()
    while True:
        names = [p["metadata"]["name"] for p in api.list(PODS, namespace, labels=labels)]
        yield names
        if api.clock.monotonic() - began > _END_SECONDS:
            raise StageFailedError(
                f"the pods of a deleted job have not ended after {_END_SECONDS / 60:.0f} minutes: "
                f"{', '.join(names)}. If their node is lost, end them with `kubectl -n {namespace} "
                "delete pod --force NAME`, then launch again"
            )
        api.clock.sleep(_PAUSE)


def runs_of(manifest: Mapping[str, Any]) -> list[str]:
    """Return the ids of the runs that wait for a job."""
    text = (manifest["metadata"].get("annotations") or {}).get(RUNS_ANNOTATION, "")
    return [run for run in text.split(",") if run]


def attempt_of(manifest: Mapping[str, Any]) -> int:
    """Return which attempt a job is."""
    return int(manifest["metadata"]["labels"][ATTEMPT_LABEL])


def changed_at(manifest: Mapping[str, Any]) -> float:
    """Return when a job was made or last changed its phase, in seconds since the epoch."""
    conditions = manifest.get("status", {}).get("conditions") or []
    stamps = [manifest["metadata"]["creationTimestamp"]]
    stamps += [c["lastTransitionTime"] for c in conditions if c.get("lastTransitionTime")]
    return max(seconds(s) or 0.0 for s in stamps)


def list_jobs(
    api: Api, namespace: str, labels: str, needed: Kind | None = None
) -> Iterator[tuple[Backend, dict[str, Any]]]:
    """Yield the jobs of all back ends that have some labels.

    Raises:
        InputError: If the cluster does not know the kind that is ``needed``.
    """
    for backend in BACKENDS:
        try:
            found = api.list(backend, namespace, labels=labels)
        except ApiError as e:
            if backend is not needed and e.status == 404:
                continue
            raise _refusal(e, backend, namespace) from e
        yield from ((backend, manifest) for manifest in found)


def _jobs_of(
    job: ClusterJob, api: Api, backend: Backend
) -> Iterator[tuple[Backend, dict[str, Any]]]:
    return list_jobs(api, job.namespace, _labels(job), backend)


def _labels(job: ClusterJob) -> str:
    return f"{STAGE_LABEL}={job.stage},{KEY_LABEL}={job.key}"


def _make(job: ClusterJob, api: Api, backend: Backend) -> dict[str, Any] | None:
    """Create the job; ``None`` if there is one of its name by now."""
    try:
        manifest = backend.render(job)
        manifest["metadata"]["annotations"] |= lease_until(api)
        return api.create(backend, job.namespace, manifest)
    except ApiError as e:
        if e.status == 409:
            return None
        raise _refusal(e, backend, job.namespace, job.name) from e


def _adopt(
    job: ClusterJob, api: Api, backend: Backend, manifest: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Note this run, its owner and a new lease in a live job; ``None`` if it has changed since."""
    metadata = manifest["metadata"]
    runs = runs_of(manifest)
    owners = list(metadata.get("ownerReferences") or [])
    if job.run:
        runs = list(dict.fromkeys([*runs, job.run]))
    if job.owner and job.owner["uid"] not in [o["uid"] for o in owners]:
        # With several owners the job lives as long as one of them.
        owners.append(dict(job.owner))
    change: dict[str, Any] = {
        "resourceVersion": metadata["resourceVersion"],
        "annotations": {RUNS_ANNOTATION: ",".join(runs), **lease_until(api)},
    }
    if owners:
        change["ownerReferences"] = owners
    try:
        adopted = api.patch(backend, job.namespace, metadata["name"], {"metadata": change})
    except ApiError as e:
        if e.status in (404, 409):
            return None
        raise _refusal(e, backend, job.namespace, metadata["name"]) from e
    return None if _deleted(adopted) else adopted


def _same_or_refused(
    job: ClusterJob, backend: Backend, other: Backend, manifest: Mapping[str, Any]
) -> None:
    if other is backend and _same(job, backend, manifest):
        return
    wanted = backend.render(replace(job, attempt=attempt_of(manifest)))
    name, namespace = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
    if other is not backend:
        how = f"it is a {other.kind}, wanted is a {backend.kind}"
    else:
        differences = list(_differences(wanted["spec"], manifest["spec"], "spec"))
        how = "; ".join(differences[:5]) or "its spec hash differs"
    raise InputError(
        f"{other.kind} {namespace}/{name} is computing this stage already, with other settings of "
        f"the launch ({how}). Two jobs may not write one result: wait for it, launch with its "
        f"settings, or end it with `kubectl -n {namespace} delete {other.plural} {name}`"
    )


def _differences(wanted: Any, there: Any, where: str) -> Iterator[str]:
    """Yield in what a job differs from a manifest; what the cluster added does not count."""
    if isinstance(wanted, Mapping) and isinstance(there, Mapping):
        for name, value in wanted.items():
            if name not in ("suspend", ATTEMPT_LABEL):
                yield from _differences(value, there.get(name), f"{where}.{name}")
    elif isinstance(wanted, list) and isinstance(there, list) and len(wanted) == len(there):
        for number, (one, other) in enumerate(zip(wanted, there, strict=True)):
            yield from _differences(one, other, f"{where}[{number}]")
    elif wanted != there:
        yield f"{where}: {str(there)[:200]}, wanted {str(wanted)[:200]}"


def _is_outcome(job: ClusterJob, backend: Backend, manifest: Mapping[str, Any]) -> bool:
    """Return whether a finished job is what this very run waited for."""
    if _deleted(manifest) or not job.run or job.run not in runs_of(manifest):
        return False
    if attempt_of(manifest) < job.attempt:
        return False
    return _same(job, backend, manifest)


def _same(job: ClusterJob, backend: Backend, manifest: Mapping[str, Any]) -> bool:
    """Return whether a job is what this launcher would make as the same attempt."""
    return _hash(backend.render(replace(job, attempt=attempt_of(manifest)))) == _hash(manifest)


def _finished(backend: Backend, manifest: Mapping[str, Any]) -> bool:
    return backend.status(manifest).phase in ("succeeded", "failed")


def _just_finished(backend: Backend, manifest: Mapping[str, Any], now: float) -> bool:
    return (
        _finished(backend, manifest)
        and not _deleted(manifest)
        and now - changed_at(manifest) < _NOTICE_SECONDS
    )


def _deleted(manifest: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" in manifest["metadata"]


def _hash(manifest: Mapping[str, Any]) -> str:
    return (manifest["metadata"].get("annotations") or {}).get(HASH_ANNOTATION, "")


def _named(backend: Backend, manifest: Mapping[str, Any]) -> str:
    return f"{backend.kind} {manifest['metadata']['namespace']}/{manifest['metadata']['name']}"


def _refusal(error: ApiError, backend: Backend, namespace: str, name: str = "") -> InputError:
    what = f"{backend.kind} {namespace}/{name}" if name else f"{backend.kind} in {namespace}"
    if error.status == 404 and "namespaces" not in str(error):
        return InputError(
            f"the cluster has no {backend.plural}.{backend.group}/{backend.version} ({error}). "
            f"Install {backend.install}; `omnistage doctor` checks it"
        )
    by_rule = "denied the request" in str(error) or "exceeded quota" in str(error)
    if error.status in (401, 403) and not by_rule:
        return InputError(
            f"{what} is refused: {error}. `omnistage doctor` shows which permissions are missing"
        )
    return InputError(f"{what} is refused by the cluster: {error}")

"""The back ends there are, and what all of them need.

A further back end is a module with a ``BACKEND`` (:class:`omnistage.cluster.jobs.job.Backend`), a
row of :data:`BACKENDS` and its name among the values of ``cluster.backend``. Doctor, the chart's
rights, the schema of its values and the launcher's messages follow.
"""

from collections.abc import Iterable

from omnistage.cluster.jobs import pytorchjob, trainjob
from omnistage.cluster.jobs.job import Backend, Right
from omnistage.cluster.settings import LaunchSettings

BACKENDS: tuple[Backend, ...] = (pytorchjob.BACKEND, trainjob.BACKEND)
COMMON_RIGHTS = (
    Right("", "pods", ("get", "list")),
    Right("", "pods/log", ("get",)),
    Right("", "events", ("list",)),
    Right("argoproj.io", "workflows", ("get",)),
)
"""Of a launcher, whatever the back end: why a job does not go on, and the run that owns it."""
QUEUE_RESOURCES = {"localqueues.kueue.x-k8s.io": "v1beta1"}
QUEUE_RIGHTS = (
    Right("kueue.x-k8s.io", "workloads", ("list",)),
    Right("kueue.x-k8s.io", "localqueues", ("get",)),
)
"""Where jobs go through a queue of Kueue."""


def backend_of(settings: LaunchSettings) -> Backend:
    """Return the back end that the settings choose."""
    return next(b for b in BACKENDS if b.name == settings.backend)


def custom_resources(settings: LaunchSettings) -> dict[str, str]:
    """Return the CRDs that a job of these settings needs, each with the version that is used."""
    queue = QUEUE_RESOURCES if settings.queue else {}
    return {**backend_of(settings).custom_resources, **queue}


def launcher_rights(settings: LaunchSettings) -> list[Right]:
    """Return what a launcher with these settings needs."""
    queue = QUEUE_RIGHTS if settings.queue else ()
    return [*backend_of(settings).rights, *COMMON_RIGHTS, *queue]


def all_launcher_rights() -> list[Right]:
    """Return what launchers need with any settings: the rules of the chart's Role."""
    return [*(r for b in BACKENDS for r in b.rights), *COMMON_RIGHTS, *QUEUE_RIGHTS]


def reaper_rights() -> list[Right]:
    """Return what :mod:`omnistage.cluster.reaper` needs."""
    jobs = [Right(b.group, b.plural, ("list", "delete")) for b in BACKENDS]
    return [*jobs, Right("argoproj.io", "workflows", ("get",))]


def rules(rights: Iterable[Right]) -> list[dict[str, list[str]]]:
    """Return rights as the rules of a Role."""
    return [
        {"apiGroups": [r.group], "resources": [r.resource], "verbs": list(r.verbs)} for r in rights
    ]

"""The back ends there are, and which one the settings choose."""

from omnistage.cluster import pytorchjob, trainjob
from omnistage.cluster.job import Backend
from omnistage.cluster.settings import LaunchSettings


def backend_of(settings: LaunchSettings) -> Backend:
    """Return the back end that the settings choose."""
    return {"pytorchjob": pytorchjob.BACKEND, "trainjob": trainjob.BACKEND}[settings.backend]


BACKENDS: tuple[Backend, ...] = (pytorchjob.BACKEND, trainjob.BACKEND)
INSTALL = {
    "pytorchjobs": "the Kubeflow training operator (or set cluster.backend: trainjob)",
    "trainjobs": "Kubeflow Trainer 2.2 or newer (or set cluster.backend: pytorchjob)",
}

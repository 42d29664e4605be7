"""``python -m omnistage.cluster.reaper``: ends the jobs that nobody waits for any more.

The chart runs it every few minutes. It deletes an unfinished job of its namespace when no launcher
has renewed its lease for ten minutes and the runs that own it have ended.
"""

import sys
from typing import Any

from omnistage.cluster.api import Api, ApiError
from omnistage.cluster.jobs.backends import BACKENDS
from omnistage.cluster.jobs.job import KEY_LABEL, Backend
from omnistage.cluster.lease import has_lapsed, runs_have_ended
from omnistage.errors import OmnistageError

_FINISHED = ("succeeded", "failed")


def reap(api: Api, namespace: str) -> list[str]:
    """Delete the jobs that nobody waits for and return their names.

    Raises:
        TransientError: If the API server does not answer.
        ApiError: If it refuses.
    """
    ended = []
    for backend in BACKENDS:
        for manifest in _jobs(api, backend, namespace):
            metadata = manifest["metadata"]
            if backend.status(manifest).phase in _FINISHED or "deletionTimestamp" in metadata:
                continue
            if not has_lapsed(manifest, api.now()) or not runs_have_ended(api, manifest):
                continue
            try:
                # Only as it was seen: a launcher may adopt it at this very moment.
                gone = api.delete(
                    backend,
                    namespace,
                    metadata["name"],
                    uid=metadata["uid"],
                    resource_version=metadata["resourceVersion"],
                )
            except ApiError as e:
                if e.status != 409:
                    raise
                continue
            if gone:
                ended.append(metadata["name"])
    return ended


def _jobs(api: Api, backend: Backend, namespace: str) -> list[dict[str, Any]]:
    try:
        return api.list(backend, namespace, labels=KEY_LABEL)
    except ApiError as e:
        if e.status == 404:  # the cluster does not have this kind
            return []
        raise


def main() -> int:
    """Delete once what is to be deleted, say what it was, and return the exit code."""
    try:
        api = Api.connect()
        for name in reap(api, api.own_namespace()):
            print(f"deleted job {name}: its runs have ended and no launcher follows it", flush=True)
    except OmnistageError as e:
        print(f"reaper: error: {e}", file=sys.stderr)
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

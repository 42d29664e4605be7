"""A running cluster, for whoever uses it."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.on_cluster.harness import machine, tools
from tests.on_cluster.harness.components import ADDRESS

STATE = machine.ROOT / "state.json"
REPOSITORY = Path(__file__).resolve().parents[3]


class ClusterError(Exception):
    """What failed, with the end of the log that says why."""


class Cluster:
    """A running cluster, as its administrator sees it.

    Attributes:
        kubeconfig: File that names and authenticates the administrator.
        address: Where its API server listens, and where pods reach servers of this machine.
    """

    def __init__(self) -> None:
        self.kubeconfig = machine.ROOT / "admin.kubeconfig"
        self.address = ADDRESS

    @property
    def environment(self) -> dict[str, str]:
        """Variables for a child process that is to use this cluster."""
        path = f"{tools.binaries()}:{os.environ['PATH']}"
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def run(self, *argv: str, text: str | None = None) -> str:
        """Run kubectl, helm or another program against this cluster; return its output.

        Raises:
            ClusterError: With what it said on stderr, if it failed.
        """
        done = subprocess.run(
            argv, input=text, env=self.environment, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise ClusterError(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl with these arguments, and with ``text`` as its input."""
        return self.run(str(tools.binaries() / "kubectl"), *arguments, text=text)

    def helm(self, *arguments: str) -> str:
        """Run helm with these arguments."""
        return self.run(str(tools.binaries() / "helm"), *arguments)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change objects (server-side)."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl(
            *("apply", "--server-side", "--force-conflicts", "-f", "-"), text=json.dumps(listed)
        )

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return what ``kubectl get`` gives, as JSON."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def wait(self, what: str, until: Callable[[], Any], seconds: float = 60) -> Any:
        """Ask again until the answer is true, and return it.

        Raises:
            ClusterError: Naming what did not come about in this time.
        """
        end = time.monotonic() + seconds
        while True:
            if answer := until():
                return answer
            if time.monotonic() > end:
                raise ClusterError(f"not seen within {seconds:.0f} s: {what}")
            time.sleep(0.25)


def running() -> Cluster | None:
    """Return the cluster that was started by hand on this machine, if there is one."""
    if not STATE.exists():
        return None
    state = json.loads(STATE.read_text())
    process = Path(f"/proc/{state['process']}/cmdline")
    alive = process.exists() and b"tests.on_cluster.harness.node" in process.read_bytes()
    if not (alive and state["shared"]):
        return None
    os.environ["OMNISTAGE_CLUSTER_CACHE"] = state["cache"]  # its programs, kubectl among them
    return Cluster()


@contextlib.contextmanager
def own_cluster(shared: bool) -> Iterator[Cluster]:
    """Start a cluster in a child process that ends with this one, and take it down after use.

    Args:
        shared: Whether other processes may find it by :func:`running`.

    Raises:
        ClusterError: If it does not start.
    """
    server = [
        sys.executable,
        "-m",
        "tests.on_cluster.harness.node",
        *([] if shared else ["--exclusive"]),
    ]
    child = subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", *server],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,  # Ctrl-C is for the tests, which then end the cluster
    )
    assert child.stdout
    try:
        if not child.stdout.readline():
            raise ClusterError("the cluster did not start; its own message is above")
        yield Cluster()
    finally:
        child.terminate()
        child.wait()
    if child.returncode != 0:
        raise ClusterError("the cluster ended badly; its own message is above")


@contextlib.contextmanager
def restricted_namespace(cluster: Cluster, words: str) -> Iterator[str]:
    """Make a namespace that enforces the restricted pod standard; delete it after use.

    Its volumes (storage.claim) are deleted too. The name begins with these words.
    """
    begin = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:40].strip("-")
    name = f"{begin}-{uuid.uuid4().hex[:5]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": name, "labels": labels}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    cluster.wait(
        "the namespace's service account",
        lambda: cluster.get("serviceaccounts", "-n", name)["items"],
    )
    try:
        yield name
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")
        cluster.kubectl("delete", "pv", "-l", f"omnistage.dev/namespace={name}", "--wait=false")


def say(what: str, begin: float) -> None:
    """Say on stderr what was done, and in how many seconds since ``begin``."""
    print(f"cluster: {what} ({time.monotonic() - begin:.1f} s)", file=sys.stderr, flush=True)

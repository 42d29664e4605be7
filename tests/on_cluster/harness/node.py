"""A cluster of two nodes on this machine: a pool of CPU nodes and a pool of GPU nodes.

``python -m tests.on_cluster.harness.node`` starts one for use by hand and tears it down on Ctrl-C
or SIGTERM; tests that start meanwhile run on it. ``--with training-operator,trainer,kueue``
installs operators. Else the tests start one of their own, in a child process of this module, which
takes the cluster down when the tests end, however they end.
"""

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.on_cluster.harness import images, machine, tools
from tests.on_cluster.harness.cluster import STATE, Cluster, ClusterError, say
from tests.on_cluster.harness.components import NODES, Plan, Program
from tests.on_cluster.harness.operators import install, require_known

LOCK = Path("/run/omnistage-cluster.lock")
START_TIMEOUT = 120.0
"""Seconds until both nodes must be Ready, on a slow machine that builds something else."""


class Server:
    """Starts the processes of a cluster, keeps them, and takes everything down again."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.logs = tools.cache_folder() / "logs"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, shared: bool) -> None:
        """Start all and return when both nodes are Ready.

        Raises:
            ClusterError: With the end of the log of what failed.
        """
        machine.clean()
        shutil.rmtree(self.logs, ignore_errors=True)
        self.logs.mkdir(parents=True)
        begin = time.monotonic()
        machine.prepare()
        plan = Plan(tools.binaries())
        self._run(plan.store + plan.runtimes)
        with ThreadPoolExecutor() as pool:
            loaded = pool.submit(self._load_images)
            self._wait("the API server answers", lambda: self._ask("get", "--raw", "/readyz"))
            say("API server", begin)
            self._run(plan.others)
            loaded.result()
        self._wait("both nodes are Ready", self._nodes_are_ready)
        self._wait("pods may be made", lambda: self._ask("get", "serviceaccount", "default"))
        self.keep_gpus()
        say("nodes Ready", begin)
        cache = str(tools.cache_folder())
        STATE.write_text(json.dumps({"process": os.getpid(), "shared": shared, "cache": cache}))

    def keep(self) -> None:
        """Watch over the processes until one of them ends.

        Raises:
            ClusterError: With the end of its log.
        """
        while True:
            self.keep_gpus()
            for _ in range(10):
                self._fail_if_one_ended()
                time.sleep(1)

    def keep_gpus(self) -> None:
        """Have GPU nodes say how many GPUs they have: a node that registers anew has none."""
        for node in NODES:
            if node.gpus:
                count = {"nvidia.com/gpu": str(node.gpus)}
                status = json.dumps({"status": {"capacity": count, "allocatable": count}})
                self._ask("patch", "node", node.name, "--subresource=status", "-p", status)

    def stop(self) -> None:
        """End all processes and pods, and take back what was done to the machine."""
        begin = time.monotonic()
        machine.clean()
        for process in self._processes.values():
            process.wait()
        say("taken down", begin)

    def _run(self, programs: list[Program]) -> None:
        for program in programs:
            with (self.logs / f"{program.name}.log").open("wb") as log:
                self._processes[program.name] = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", *program.argv],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                )

    def _load_images(self) -> None:
        small = [
            images.program_image(images.PAUSE, tools.binaries() / "pause", "/pause"),
            images.host_image(),
            images.nslookup_image(),
        ]
        self._wait("containerd listens", lambda: all(node.socket.exists() for node in NODES))
        for image in small:
            images.load(image.archive())

    def _ask(self, *arguments: str) -> str:
        """Return kubectl's answer, or nothing while there is none."""
        try:
            return self.cluster.kubectl(*arguments)
        except ClusterError:
            return ""

    def _nodes_are_ready(self) -> bool:
        listed = json.loads(self._ask("get", "nodes", "-o", "json") or '{"items": []}')
        ready = [
            condition["status"]
            for node in listed["items"]
            for condition in node["status"]["conditions"]
            if condition["type"] == "Ready"
        ]
        return ready == ["True"] * len(NODES)

    def _wait(self, what: str, until: Callable[[], Any]) -> None:
        end = time.monotonic() + START_TIMEOUT
        while not until():
            self._fail_if_one_ended()
            if time.monotonic() > end:
                raise ClusterError(f"not seen in {START_TIMEOUT:.0f} s: {what}\n{self._tails()}")
            time.sleep(0.2)

    def _fail_if_one_ended(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise ClusterError(f"{name} ended with {process.returncode}\n{self._tail(name)}")

    def _tails(self) -> str:
        return "\n".join(self._tail(name) for name in self._processes)

    def _tail(self, name: str, lines: int = 8) -> str:
        log = self.logs / f"{name}.log"
        return "\n".join([f"== {log}", *log.read_text(errors="replace").splitlines()[-lines:]])


def main() -> None:
    """Run a cluster until Ctrl-C, SIGTERM or the end of one of its processes."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.on_cluster.harness.node", description=__doc__
    )
    parser.add_argument("--with", dest="operators", default="", metavar="NAME,…")
    parser.add_argument("--exclusive", action="store_true", help="for one run of the tests")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        operators = [name for name in arguments.operators.split(",") if name]
        require_known(operators)
        tools.require_machine()
        tools.build()
        _serve(arguments.exclusive, operators)
    except (tools.ToolsError, ClusterError) as e:
        sys.exit(str(e))


def _serve(exclusive: bool, operators: list[str]) -> None:
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("cluster: waiting for the other one on this machine to end", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        server = Server()
        try:
            server.start(shared=not exclusive)
            for name in operators:
                install(server.cluster, name)
            print(f"export KUBECONFIG={server.cluster.kubeconfig}", flush=True)
            server.keep()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            server.stop()


if __name__ == "__main__":
    main()

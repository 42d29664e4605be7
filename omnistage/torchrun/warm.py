"""A process that has imported what its jobs import, and forks each of them.

``python -m omnistage.torchrun.warm SOCKET`` listens on a Unix socket. The modules are imported when
the first job comes; each job then is a fork, with its own environment, arguments and output.
"""

import contextlib
import ctypes
import gc
import importlib
import os
import random
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

VARIABLE = "OMNISTAGE_WARM"
"""Names the socket."""

_PDEATHSIG = 1
_LENGTH = 8  # bytes of the number that says how long a request is


@contextlib.contextmanager
def forking(modules: Sequence[str], env: Mapping[str, str]) -> Iterator[None]:
    """Have the jobs forked that this process and those below it run inside this context.

    Args:
        modules: What is imported once for all of them.
        env: What is set when that is done. A job whose environment differs in one of these is
            started as any other process, as is one of several processes.
    """
    with tempfile.TemporaryDirectory(prefix="omnistage-warm-") as folder:
        path = f"{folder}/socket"
        server = subprocess.Popen(
            [sys.executable, "-m", "omnistage.torchrun.warm", path],
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert server.stdin is not None  # both are pipes
        assert server.stdout is not None
        with server.stdin, server.stdout:
            asked = {"parent": os.getpid(), "modules": modules, "env": dict(env)}
            server.stdin.write(orjson.dumps(asked))
            server.stdin.close()
            server.stdout.readline()  # it listens
            around = os.environ.get(VARIABLE)
            os.environ[VARIABLE] = path
            try:
                yield
            finally:
                os.environ.pop(VARIABLE)
                if around:
                    os.environ[VARIABLE] = around
                server.kill()
                server.wait()


class Fork:
    """A job that was forked: the part of ``subprocess.Popen`` that running it needs.

    It ends with this process, as the server sees the connection closed.

    Args:
        connection: To the server, which has said the process's number.
        pid: That number.
        output: What the job prints.
    """

    def __init__(self, connection: socket.socket, pid: int, output: int) -> None:
        self._connection = connection
        self.pid = pid
        self.stdout = open(output, "rb", buffering=0)  # noqa: SIM115 - closed by who reads it
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return how the job ended, as ``Popen`` says it, or ``None`` while it runs."""
        return self._read(socket.MSG_DONTWAIT)

    def wait(self) -> int:
        """Wait for the job's end and return how it ended."""
        code = self._read(0)
        assert code is not None  # it was waited for
        return code

    def _read(self, flags: int) -> int | None:
        if self.returncode is None:
            try:
                answer = self._connection.recv(32, flags)
            except BlockingIOError:
                return None
            # Without an answer the server is gone, and with it all that it forked.
            self.returncode = int(answer) if answer else -signal.SIGKILL
            self._connection.close()
        return self.returncode


def fork(program: tuple[str, ...], env: Mapping[str, str]) -> Fork | None:
    """Start a job as a fork; ``None`` where nobody offers it, or not for this environment.

    Args:
        program: What Python would be given: a file or ``-m module``, then its arguments.
        env: The whole environment.
    """
    path = os.environ.get(VARIABLE)
    if path is None:
        return None
    connection = socket.socket(socket.AF_UNIX)
    output, written = os.pipe()
    try:
        request = orjson.dumps({"program": program, "env": dict(env), "folder": str(Path.cwd())})
        connection.connect(path)
        socket.send_fds(connection, [len(request).to_bytes(_LENGTH, "big")], [written])
        connection.sendall(request)
        answer = connection.recv(32)
    except OSError:
        answer = b""
    finally:
        os.close(written)
    if not answer:
        connection.close()
        os.close(output)
        return None
    return Fork(connection, int(answer), output)


@dataclass
class _Child:
    """A fork, as its server knows it."""

    pid: int
    connection: socket.socket
    ended: bool = False


def main(path: str) -> int:
    """Serve until killed. A fork leaves the loop, runs its job and returns its exit code."""
    asked = orjson.loads(sys.stdin.buffer.read())
    _die_with(asked.pop("parent"))
    with socket.socket(socket.AF_UNIX) as server, selectors.DefaultSelector() as selector:
        server.bind(path)
        server.listen(16)
        print("ready", flush=True)
        request, output = _serve(server, selector, **asked)
    return _run(request, output)


def _serve(
    server: socket.socket,
    selector: selectors.BaseSelector,
    modules: Sequence[str],
    env: Mapping[str, str],
) -> tuple[dict[str, Any], int]:
    """Fork and reap for ever; in a fork, return its request and where it prints to."""
    selector.register(server, selectors.EVENT_READ)
    children: list[_Child] = []
    here = os.getpid()
    while True:
        for key, _ in selector.select():
            child: _Child | None = key.data
            if child is None:
                connection, _ = server.accept()
                request, output = _receive(connection)
                if any(request["env"].get(name) != value for name, value in env.items()):
                    connection.close()
                    os.close(output)
                    continue
                _import(modules)
                pid = os.fork()
                if pid == 0:
                    _die_with(here)
                    for other in (connection, *(c.connection for c in children)):
                        other.close()
                    return request, output
                os.close(output)
                child = _Child(pid, connection)
                children.append(child)
                connection.send(f"{pid}\n".encode())
                selector.register(connection, selectors.EVENT_READ, child)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, child)
            elif key.fileobj is child.connection:
                # Who asked for it is gone, or knows how it ended.
                selector.unregister(child.connection)
                child.connection.close()
                children.remove(child)
                if not child.ended:
                    os.kill(child.pid, signal.SIGKILL)
                    with contextlib.suppress(ProcessLookupError):  # it had not got a group yet
                        os.killpg(child.pid, signal.SIGKILL)
            else:
                selector.unregister(key.fileobj)
                os.close(key.fd)
                _, status = os.waitpid(child.pid, 0)
                child.ended = True
                with contextlib.suppress(OSError):  # nobody may be left to be told
                    child.connection.send(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _receive(connection: socket.socket) -> tuple[dict[str, Any], int]:
    """Return a request and the file that it prints to."""
    length, files, _, _ = socket.recv_fds(connection, _LENGTH, 1)
    with connection.makefile("rb") as stream:
        return orjson.loads(stream.read(int.from_bytes(length, "big"))), files[0]


def _import(modules: Sequence[str]) -> None:
    if all(name in sys.modules for name in modules):
        return
    for name in modules:
        importlib.import_module(name)
    gc.freeze()  # so that collecting garbage does not copy the pages that forks share


def _run(request: Mapping[str, Any], output: int) -> int:
    """Run a job in this process, as Python would run its program."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["folder"])
    random.seed()
    program = request["program"]
    if program[0] == "-m":
        sys.argv = list(program[1:])
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(program)
        sys.path[0] = str(Path(program[0]).parent)
        runpy.run_path(program[0], run_name="__main__")
    return 0


def _die_with(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone already
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

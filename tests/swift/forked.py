"""Runs the trainer's processes as forks of one process that has imported ms-swift already.

Importing it takes most of the time that a short training takes. Everything else is as in
production: each training is a process of its own, with its own environment and arguments.
"""

import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path

from omnistage.errors import StageFailedError
from omnistage.torchrun.job import TorchrunJob, diagnose

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.swift.preload"])


def run(job: TorchrunJob, follow: Callable[[], str | None]) -> float:
    """Run a job of one process; see :func:`omnistage.torchrun.run.run`."""
    assert job.nproc_per_node == 1
    began = time.monotonic()
    env = {**os.environ, **job.env}
    process = _CONTEXT.Process(target=_main, args=(job.program, env, str(job.log)))
    process.start()
    while process.is_alive():
        reason = follow()
        if reason:
            process.kill()
            raise StageFailedError(reason)
        process.join(0.2)
    reason = follow()
    if process.exitcode or reason:
        raise StageFailedError(reason or diagnose(job.log.read_text(errors="replace")))
    return time.monotonic() - began


def _main(program: tuple[str, ...], env: dict[str, str], log: str) -> None:
    import torch

    with Path(log).open("ab", buffering=0) as f:
        os.dup2(f.fileno(), 1)
        os.dup2(f.fileno(), 2)
    os.environ.clear()
    os.environ.update(env)
    torch.set_num_threads(1)
    if program[0] == "-m":
        sys.argv = list(program[1:])
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(program)
        runpy.run_path(program[0], run_name="__main__")

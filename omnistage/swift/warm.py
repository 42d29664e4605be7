"""One import of ms-swift for all the trainings, encodings and evaluations of a run."""

import os
from contextlib import AbstractContextManager, nullcontext

from omnistage.swift.media import process_environment
from omnistage.torchrun.job import gpu_count
from omnistage.torchrun.warm import VARIABLE, forking

_MODULES = (
    "swift.infer_engine",
    "swift.pipelines.train.rlhf",
    "swift.pipelines.train.sft",
    "swift.rewards",
    "swift.rlhf_trainers.grpo_trainer",
    "swift.template",
    "swift.trainers.seq2seq_trainer",
    "swift.tuners",
)


def warm_trainer() -> AbstractContextManager[None]:
    """Import ms-swift once for all that is run inside this context, on a machine without a GPU.

    That takes some ten seconds, which is most of a training of a minute. Not with a GPU: CUDA does
    not survive a fork, and beside a training of hours the seconds do not matter. The modules read
    nothing of the environment that differs between jobs, and the Qwen utilities, which read the
    bounds on media when they are imported, are not among them.

    Where that has been done already around this process, it is not done again.
    """
    if gpu_count() or VARIABLE in os.environ:
        return nullcontext()
    return forking(_MODULES, process_environment(0))

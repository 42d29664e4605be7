"""What every training imports, for the process that :mod:`tests.swift.forked` forks from."""

import os

# Read when ms-swift is imported, the same in every training.
os.environ |= {"USE_HF": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
os.environ |= {"TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import swift.infer_engine
import swift.pipelines.train.rlhf
import swift.pipelines.train.sft
import swift.rewards
import swift.rlhf_trainers.grpo_trainer
import swift.template
import swift.trainers.seq2seq_trainer
import swift.tuners  # noqa: F401

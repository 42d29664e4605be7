"""A node's place in a training job, from what the operators set in its environment."""

from pathlib import Path

import pytest

from omnistage.errors import InputError, StageFailedError
from omnistage.torchrun import run as local
from omnistage.torchrun.job import TorchrunJob, lost_peer
from omnistage.torchrun.world import SINGLE_NODE, World, this_world, without_world

PYTORCHJOB = {
    "MASTER_ADDR": "sft-0-master-0",
    "MASTER_PORT": "23456",
    "PET_MASTER_ADDR": "sft-0-master-0",
    "PET_MASTER_PORT": "23456",
    "PET_NNODES": "2",
    "PET_NODE_RANK": "1",
    "PET_NPROC_PER_NODE": "4",
    "RANK": "1",
    "WORLD_SIZE": "8",
}
TRAINJOB = {
    "PET_MASTER_ADDR": "sft-0-node-0-0.sft-0",
    "PET_MASTER_PORT": "29400",
    "PET_NNODES": "3",
    "PET_NODE_RANK": "0",
    "PET_NPROC_PER_NODE": "8",
}


def test_both_operators_are_understood() -> None:
    assert this_world(PYTORCHJOB) == World(2, 1, "sft-0-master-0", 23456)
    assert this_world(TRAINJOB) == World(3, 0, "sft-0-node-0-0.sft-0", 29400)


def test_without_an_operator_there_is_one_node() -> None:
    assert this_world({}) == SINGLE_NODE
    assert this_world({**PYTORCHJOB, "PET_NNODES": "1", "PET_NODE_RANK": "0"}) == SINGLE_NODE


@pytest.mark.parametrize(
    "wrong",
    [{"PET_NNODES": "1:4"}, {"PET_NODE_RANK": "2"}, {"PET_NODE_RANK": ""}, {"PET_NNODES": "x"}],
)
def test_variables_that_contradict_each_other_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InputError, match="PET_NNODES"):
        this_world({**PYTORCHJOB, **wrong})


def test_a_program_of_its_own_does_not_see_the_gang() -> None:
    # A plain process would wait for seven others.
    assert without_world({**PYTORCHJOB, "HOME": "/tmp"}) == {"HOME": "/tmp"}


def test_every_node_starts_torchrun_with_its_own_rank(tmp_path: Path) -> None:
    job = TorchrunJob(
        "t", ("train.py",), tmp_path / "log", nproc_per_node=4, world=this_world(PYTORCHJOB)
    )
    argv = local.render(job).argv
    assert "--nnodes=2" in argv
    assert "--node_rank=1" in argv
    assert "--master_addr=sft-0-master-0" in argv
    assert "--master_port=23456" in argv
    assert "--nproc_per_node=4" in argv
    assert "--standalone" not in argv
    # A node of one process is a part of the gang too.
    job = TorchrunJob("t", ("x",), tmp_path, world=World(2, 0, "a", 1))
    assert "--nnodes=2" in local.render(job).argv


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("RuntimeError: [gloo/tcp/pair.cc:534] Connection closed by peer [198.18.0.7]:41562", True),
        ("torch.distributed.DistBackendError: NCCL error: ncclRemoteError: a call failed", True),
        ("[Rank 3] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7)", True),
        ("torch.distributed.DistNetworkError: The client socket has timed out after 60s", True),
        ("ValueError: batch_size 3 does not divide by 4", False),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", False),
    ],
)
def test_a_lost_node_is_told_from_an_error_of_this_one(text: str, lost: bool) -> None:
    assert lost_peer(text) is lost


def test_a_single_process_that_loses_a_connection_has_failed(tmp_path: Path) -> None:
    text = "RuntimeError: [gloo] Connection closed by peer [198.18.0.7]:41562"
    program = ("-c", f"import sys; sys.exit({text!r})")
    with pytest.raises(StageFailedError, match="Connection closed by peer"):
        local.run(TorchrunJob("train", program, tmp_path / "log"), lambda: None)

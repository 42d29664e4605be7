"""Which node of a training job this machine is, from the variables that the operators set."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from omnistage.errors import InputError

_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK")
_OPERATORS = ("MASTER_ADDR", "MASTER_PORT", "NNODES", "NPROC_PER_NODE")


@dataclass(frozen=True)
class World:
    """The nodes of a training job."""

    nodes: int = 1
    node_rank: int = 0
    address: str = ""
    """Host of node 0."""
    port: int = 0


SINGLE_NODE = World()


def this_world(env: Mapping[str, str] = os.environ) -> World:
    """Return the world that PyTorchJob and TrainJob describe; one node where none does.

    ``PET_*`` is what torchrun reads and both operators set; PyTorchJob names the address
    ``MASTER_ADDR`` and ``MASTER_PORT`` too. Its ``RANK`` and ``WORLD_SIZE`` are not read here:
    ``RANK`` is a node's while ``WORLD_SIZE`` counts processes.

    Raises:
        InputError: If the variables contradict each other.
    """
    count = env.get("PET_NNODES", "1")
    if not count.isdigit():
        raise InputError(f"PET_NNODES={count}: a fixed number of nodes is expected, not a range")
    nodes = int(count)
    if nodes == 1:
        return SINGLE_NODE
    rank = env.get("PET_NODE_RANK", "")
    address = env.get("PET_MASTER_ADDR") or env.get("MASTER_ADDR", "")
    port = env.get("PET_MASTER_PORT") or env.get("MASTER_PORT", "")
    if not rank.isdigit() or int(rank) >= nodes or not address or not port.isdigit():
        raise InputError(
            f"PET_NNODES={nodes} needs PET_NODE_RANK below it (is {rank!r}), and MASTER_ADDR "
            f"(is {address!r}) and MASTER_PORT (is {port!r}) of node 0"
        )
    return World(nodes, int(rank), address, int(port))


def without_world(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the variables of a training job.

    A single process would take itself for one of many, and torchrun takes defaults from ``PET_*``;
    it is told everything by its arguments.
    """
    dropped = {*_TORCHRUN, *_OPERATORS}
    return {n: v for n, v in env.items() if n not in dropped and not n.startswith("PET_")}

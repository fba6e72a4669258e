"""The processes that hold a sharded teacher together: one per GPU, or per share of a host's memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from exfm.models.sharded.extra import ShardingError

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Ranks:
    """This process among all.

    Attributes:
        rank: its number.
        world: how many there are.
        local: how many of them are on this machine.
        device: where its shards and its copy of the dense part lie.
    """

    rank: int
    world: int
    local: int
    device: torch.device

    def part(self, rows: int) -> slice:
        """Which of so many rows are this process's: even parts, one after the other, the last ones may be short."""
        share = -(-rows // self.world)
        return slice(min(self.rank * share, rows), min((self.rank + 1) * share, rows))

    def gather(self, mine: torch.Tensor, rows: int) -> torch.Tensor:
        """All processes' parts [share, ...] of `rows` rows, the same on each; parts must have been filled up evenly."""
        parts = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(parts, mine.contiguous())
        return torch.cat(parts)[:rows]


@contextmanager
def joined_ranks(wait_s: float = 600.0) -> Iterator[Ranks]:
    """Join the processes that torchrun started: gloo on processors, NCCL on GPUs.

    Args:
        wait_s: how long a process waits for one that died or is late before it fails.

    Raises:
        ShardingError: torchrun didn't start this process.
    """
    if missing := [name for name in NEEDED if name not in os.environ]:
        raise ShardingError(
            f"{missing[0]} is not set: start with torchrun --nproc-per-node N -m exfm.commands.train ..."
        )
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(seconds=wait_s))
    try:
        world = dist.get_world_size()
        yield Ranks(dist.get_rank(), world, int(os.environ.get("LOCAL_WORLD_SIZE", world)), device)
    finally:
        dist.destroy_process_group()

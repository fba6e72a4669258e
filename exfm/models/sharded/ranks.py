"""The processes that hold a sharded teacher together: one per GPU, or per share of a host's memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

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
        return parts_of(rows, self.world)[self.rank]

    def agree(self, word: bool) -> bool:
        """The first process's word; a collective."""
        said = torch.tensor([word], dtype=torch.uint8, device=self.device)
        dist.broadcast(said, 0)
        return bool(said.item())

    def gather(self, mine: torch.Tensor, rows: int) -> torch.Tensor:
        """All processes' parts [share, ...] of `rows` rows, the same on each; parts must have been filled up evenly."""
        parts = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(parts, mine.contiguous())
        return torch.cat(parts)[:rows]


def parts_of(rows: int, world: int) -> list[slice]:
    """Even parts of so many rows, one after the other; the last ones may be short, or empty."""
    share = -(-rows // world)
    edges = [min(rank * share, rows) for rank in range(world + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


@contextmanager
def joined_ranks(wait_s: float = 600.0) -> Iterator[Ranks]:
    """Join the processes that torchrun started: NCCL where each of them has a GPU, else gloo on processors.

    Args:
        wait_s: how long a process waits for one that died or is late before it fails.

    Raises:
        ShardingError: torchrun didn't start this process.
    """
    if missing := [name for name in NEEDED if name not in os.environ]:
        raise ShardingError(
            f"{missing[0]} is not set: start with torchrun --nproc-per-node N -m exfm.commands.train_sharded ..."
        )
    local = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    with _joined(int(os.environ.get("LOCAL_RANK", "0")), local, wait_s) as ranks:
        yield ranks


@contextmanager
def ranks_of_this_machine(rank: int, world: int, meeting: Path, wait_s: float) -> Iterator[Ranks]:
    """Join so many processes of this machine, which meet in a file that is not there yet; otherwise `joined_ranks`."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # nobody else's business, and a host's name may lead nowhere
    with _joined(rank, world, wait_s, init_method=f"file://{meeting}", rank=rank, world_size=world) as ranks:
        yield ranks


@contextmanager
def _joined(place: int, local: int, wait_s: float, **meet: Any) -> Iterator[Ranks]:
    cuda = torch.cuda.device_count() >= local
    device = torch.device("cuda", place) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(seconds=wait_s), **meet)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), local, device)
    finally:
        dist.destroy_process_group()

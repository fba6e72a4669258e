"""Processes that form a group on this machine, forked from one that has torchrec loaded already."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from bench.scale.servers import free_ports
from exfm.commands.annotate import main

PRELOADED = ["exfm.distill.sharded.training", "bench.scale.sharded_ranks"]


def run_ranks(world: int, work: Callable[..., int | None], *arguments: Any, limit_s: float = 300.0) -> None:
    """Run `work(*arguments)` in so many processes, with the environment that torchrun gives them.

    Raises:
        TimeoutError: they took too long, and were killed.
        RuntimeError: one failed, or gave an exit code; what it said is on its standard error.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    (port,) = free_ports(1)
    ranks = [context.Process(target=_run, args=(rank, world, port, work, arguments)) for rank in range(world)]
    for each in ranks:
        each.start()
    try:
        for each in ranks:
            each.join(limit_s)
            if each.exitcode is None:
                raise TimeoutError(f"{world} ranks took more than {limit_s} s")
            if each.exitcode:
                raise RuntimeError(f"a rank of {world} ended with {each.exitcode}")
    finally:
        for each in ranks:
            each.kill()
            each.join()


def _run(rank: int, world: int, port: int, work: Callable[..., int | None], arguments: tuple[Any, ...]) -> None:
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in own.items()}, MASTER_ADDR="127.0.0.1")
    sys.exit(work(*arguments) or 0)


def annotate_into(path: Path, arguments: list[str]) -> None:
    """`exfm-annotate` with its standard output in a file; its exit code is not looked at."""
    with path.open("w", encoding="utf-8") as out, redirect_stdout(out):
        main(arguments)

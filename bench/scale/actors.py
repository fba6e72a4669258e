"""The teacher's forward pass by each kind of workers beside bare processes that do nothing else, in turns."""

import importlib.util
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, redirect_stdout
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from bench.asynchrony.teacher import publish
from bench.asynchrony.throughput import BATCH, MODEL
from bench.scale.actor_kills import annotated_once
from bench.scale.servers import ServerMissingError
from exfm.augment.annotate.forward import Annotations, annotate
from exfm.augment.annotate.snapshots import Snapshots
from exfm.augment.annotate.workers.opening import open_workers
from exfm.augment.annotate.workers.priority import yield_to_others
from exfm.augment.annotate.workers.protocol import Task, Workers
from exfm.data.simulator import Scale, simulate
from exfm.distill.stream import encode

KINDS = ("local", "ray")


def measure(folder: Path, *, rounds: int, batches: int, kills: int, counts: Sequence[int] = (1, 2)) -> dict[str, Any]:
    """`efficiency` of both kinds by number of workers, and what kills do (`bench.scale.actor_kills`).

    Args:
        folder: empty.
        rounds: turns of each kind and of the bare processes.
        batches: of 4096 examples, per turn.
        kills: of a worker.
        counts: numbers of workers.

    Raises:
        ServerMissingError: Ray is not installed.
        TimeoutError: the annotator failed, or took too long.
    """
    if importlib.util.find_spec("ray") is None:
        raise ServerMissingError("ray is not installed: pip install 'exfm-serving[scale]'")
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # as the annotator, at low priority, with its own Ray
        speed = pool.submit(_speed, folder, rounds, batches, tuple(counts)).result()
    fates = annotated_once(folder, kills=kills)
    return {**speed, "annotated_once": all(fate["annotated_once"] for fate in fates.values()), **fates}


def _speed(folder: Path, rounds: int, batches: int, counts: Sequence[int]) -> dict[str, Any]:
    torch.set_num_threads(1)
    yield_to_others()
    tasks = _tasks(folder, batches)
    turns = {str(count): _turns(folder / "snapshots", tasks, rounds, count) for count in counts}
    ratios = {
        kind: {count: [each["bare"] / each[kind] for each in made] for count, made in turns.items()} for kind in KINDS
    }
    return {
        "efficiency": {kind: {count: median(each) for count, each in made.items()} for kind, made in ratios.items()},
        "efficiencies": ratios,
        "examples_per_s": {
            kind: {count: batches * BATCH / median(each[kind] for each in made) for count, made in turns.items()}
            for kind in ("bare", *KINDS)
        },
        "batch": BATCH,
        "model": MODEL,
        "cores": len(os.sched_getaffinity(0)),
    }


def _tasks(folder: Path, batches: int) -> list[Task]:
    schema, examples, *_ = simulate(0, Scale(rows=batches * BATCH))
    snapshots = publish(schema, folder / "snapshots", **MODEL)
    rows = np.concatenate(list(encode(examples, schema).values()), 1)
    snapshot = snapshots.load(snapshots.current())
    past = np.random.default_rng(0).normal(size=(len(rows), snapshot.counters)).astype(np.float32)
    places = [slice(at, at + BATCH) for at in range(0, len(rows), BATCH)]
    return [Task(snapshot.name, rows[place], past[place], "int4") for place in places]


def _turns(folder: Path, tasks: list[Task], rounds: int, count: int) -> list[dict[str, float]]:
    """Seconds for all tasks, by kind, per round; who goes first changes."""
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))  # Ray's word on its workers
        bare = Bare(folder, tasks, count)
        stack.callback(bare.close)
        workers = {kind: open_workers(f"{kind}:{count}", folder) for kind in KINDS}
        for each in workers.values():
            stack.callback(each.close)
            _through(each, tasks[: 2 * count])  # everything is loaded after that
        runs: dict[str, Callable[[], float]] = {kind: partial(_through, each, tasks) for kind, each in workers.items()}
        runs["bare"] = bare.run
        made = []
        for number in range(rounds):
            first = number % len(runs)
            made.append({kind: runs[kind]() for kind in [*runs][first:] + [*runs][:first]})
        return made


def _through(workers: Workers, tasks: Sequence[Task]) -> float:
    """As the annotator does: as many in flight as the workers want, taken in order."""
    began_s, flying = time.perf_counter(), deque["Future[Annotations]"]()
    for task in tasks:
        if len(flying) == workers.depth:
            flying.popleft().result()
        flying.append(workers.submit(task))
    for each in flying:
        each.result()
    return time.perf_counter() - began_s


class Bare:
    """Processes at the workers' priority, the tasks in memory, that take one after the other; no answer leaves them."""

    def __init__(self, folder: Path, tasks: Sequence[Task], count: int) -> None:
        context, self._ends = get_context("spawn"), list[Connection]()
        self._next = context.Value("i", 0)
        self._processes = []
        for _ in range(count):
            mine, other = context.Pipe()
            self._processes.append(
                context.Process(target=_bare, args=(folder, list(tasks), self._next, other), daemon=True)
            )
            self._processes[-1].start()
            self._ends.append(mine)
        self.run()

    def run(self) -> float:
        """Seconds until the last task is done."""
        self._next.value = 0
        began_s = time.perf_counter()
        for each in self._ends:
            each.send(True)
        for each in self._ends:
            each.recv()
        return time.perf_counter() - began_s

    def close(self) -> None:
        """End them."""
        for each in self._ends:
            each.send(False)
        for process in self._processes:
            process.join()


def _bare(folder: Path, tasks: list[Task], following: "Synchronized[int]", end: Connection) -> None:
    yield_to_others(own_session=True)
    torch.set_num_threads(1)
    snapshots = Snapshots(folder)
    snapshot = snapshots.load(snapshots.current())
    while end.recv():
        while (place := _take(following)) < len(tasks):
            annotate(snapshot, tasks[place].rows, tasks[place].counters, tasks[place].codec)
        end.send(True)


def _take(following: "Synchronized[int]") -> int:
    with following.get_lock():
        following.value += 1
        return following.value - 1

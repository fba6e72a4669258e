"""A small world for the asynchronous plane: served impressions, their outcomes, and a teacher."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from exfm.augment.annotate.snapshots import Snapshots
from exfm.data.source import Source
from exfm.distill.config import load_config
from exfm.distill.counters import width_of
from exfm.events.ids import impression_key
from exfm.events.impression import BLOCKS, Impression
from exfm.events.outcome import Outcome
from exfm.models.checkpoint import Checkpoint
from exfm.models.teacher import Teacher


@dataclass(frozen=True)
class World:
    """A source as it would have been served.

    Attributes:
        source: the truth.
        impressions: one per row, in order of time.
        outcomes: its positive outcomes, one second after the impression.
    """

    source: Source
    impressions: list[Impression]
    outcomes: list[Outcome]


def serve(source: Source) -> World:
    """Rows with a `buy` label were served by vertical `buys`, all others by `clicks`."""
    log, made = source.examples, []
    for row in range(len(log)):
        name = "clicks" if np.isnan(log.labels["buy"][row]) else "buys"
        own = source.schema.for_vertical(name)
        part = log.slice(row, row + 1).project(source.schema, own)
        blocks = {block: np.ascontiguousarray(part.blocks[block]).tobytes() for block in BLOCKS}
        made.append(
            Impression(
                key=impression_key(name, f"r{row}", int(log.ad[row])),
                request_id=f"r{row}",
                ad=int(log.ad[row]),
                user=int(log.user[row]),
                time_ms=int(log.time_ms[row]),
                vertical=name,
                version=3,
                schema_hash=own.digest,
                tier="full",
                reason="",
                place=0,
                bid=1.0,
                probability=np.array([0.5], "<f4").tobytes(),
                history=b"",
                **blocks,
            )
        )
    outcomes = [
        Outcome(each.key, task, 1.0, each.time_ms + 1000)
        for row, each in enumerate(made)
        for task in source.schema.vertical(each.vertical).tasks
        if log.labels[task][row] == 1
    ]
    return World(source, made, outcomes)


@pytest.fixture
def world(tiny: Callable[..., Source]) -> Callable[..., World]:
    return lambda rows=300, seed=0: serve(tiny(rows, seed))


def make_snapshot(
    folder: Path, source: Source, name: str = "first", seed: int = 0, *, learned_until_ms: int = 0, embedding: int = 8
) -> Snapshots:
    """A random teacher, made current in folder/snapshots."""
    tasks = source.schema.tasks
    columns = width_of(load_config(source.name).counters, len(tasks), 0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        teacher = Teacher(source.schema, tasks, columns, dimension=4, embedding=embedding)
    path = folder / f"{name}.pt"
    Checkpoint(
        kind="teacher",
        schema=source.schema,
        tasks=tasks,
        state=teacher.state_dict(),
        options={"counters": columns, "dimension": 4, "embedding": embedding},
        lineage={"data": source.name, "learned_until_ms": learned_until_ms},
    ).save(path)
    snapshots = Snapshots(folder / "snapshots")
    snapshots.publish(path, name)
    return snapshots


@pytest.fixture(scope="session")
def publish_into() -> Callable[..., Snapshots]:
    return make_snapshot


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., Snapshots]:
    """`publish(source, name="first", seed=0, ...)`, see `make_snapshot`: into tmp_path."""
    return partial(make_snapshot, tmp_path)

"""A published student that reads histories, and requests of users who have one; its weights are random."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from bench.scale.stores import DIMENSION, EVENTS, events
from exfm.augment.store.backends import open_store
from exfm.data.simulator import SCHEMA_FILE
from exfm.features.schema import HistorySpec, Schema
from exfm.models.checkpoint import Checkpoint, Prior
from exfm.models.student import Student
from exporter.engines.requests import random_request
from exporter.export import export
from exporter.options import QUICK_BUCKETS, ExportOptions
from loadtest.workload.asked import Workload
from loadtest.workload.making import from_schema
from loadtest.workload.sizes import fixed
from serving.catalog import Vertical
from serving.repository import load_catalog
from serving.rpc.pb import ranking_pb2 as pb

ADS = 1000
"""That the prior knows."""


@dataclass(frozen=True)
class Served:
    """A model repository with one vertical, and a workload for it."""

    repository: Path
    vertical: Vertical
    workload: Workload

    def users(self) -> Sequence[int]:
        """Whom the workload's requests are for."""
        column = self.vertical.user_column
        assert column is not None
        messages = (pb.RankRequest.FromString(asked.message) for asked in self.workload.requests)
        return [int(np.frombuffer(message.user.ids, "<i8")[column]) for message in messages]

    def remember(self, url: str) -> None:
        """Give each of the users a full history in the store."""
        store = open_store(url)
        store.update(dict.fromkeys(self.users(), events(0, EVENTS)), 1)
        store.close()


def publish(folder: Path, candidates: int, schema: Schema | None = None) -> Served:
    """Publish a student of a schema's first vertical (default: the simulator's); requests of so many candidates."""
    whole = replace(schema or Schema.load(SCHEMA_FILE), history=HistorySpec(EVENTS, DIMENSION))
    checkpoint = _checkpoint(whole.for_vertical(whole.verticals[0].name))
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(folder / "student.pt")
    export(folder / "student.pt", folder / "repository", ExportOptions(buckets=QUICK_BUCKETS))
    return served_from(folder / "repository", candidates)


def served_from(repository: Path, candidates: int) -> Served:
    """What a repository with one vertical serves; requests of so many candidates."""
    (vertical,) = load_catalog(repository).values()
    return Served(repository, vertical, from_schema(vertical.schema, vertical.name, fixed(candidates), seed=0))


def _checkpoint(own: Schema) -> Checkpoint:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student = Student(own)
    share = np.random.default_rng(0).uniform(0.01, 0.2, (ADS, len(own.tasks))).astype(np.float32)
    return Checkpoint(
        kind="student",
        schema=own,
        tasks=own.tasks,
        state=student.state_dict(),
        vertical=own.verticals[0].name,
        backbone="dot",
        options={"dimension": 16, "history": {}},
        quality={"auc": 0.5, "ne": 1.0},
        lineage={"teacher": "none"},
        prior=Prior(np.arange(ADS, dtype=np.int64), share, share.mean(0)),
        golden=random_request(own, 64, seed=0),
    )

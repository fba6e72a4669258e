"""A tiny log with something to learn, for the learning part's tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from exfm.augment.stream.writer import StreamWriter
from exfm.data.annotated import StreamForm
from exfm.data.examples import Blocks, Catalogue, Examples
from exfm.data.source import Source
from exfm.features.schema import SIDES, Feature, Schema, Vertical
from exfm.features.signature import blocks_of

SCHEMA = Schema(
    name="tiny",
    features=(
        Feature("user_id", "user", "id", buckets=64),
        Feature("age", "user", "number", boundaries=(0.3, 0.6)),
        Feature("tab", "context", "category", vocabulary=(1, 2)),
        Feature("ad_id", "ad", "id", buckets=128),
        Feature("topic", "ad", "category", vocabulary=(1, 2, 3)),
        Feature("price", "ad", "number", boundaries=(0.5,)),
    ),
    verticals=(
        Vertical("clicks", ("click",)),
        Vertical("buys", ("buy",), features=("user_id", "tab", "ad_id", "topic")),
    ),
)


def make_source(rows: int = 1200, seed: int = 0) -> Source:
    """`rows` impressions over two days; tab 2 shows the clicks vertical only, so its rows have no `buy` label."""
    draw = np.random.default_rng(seed)
    user, ad = draw.integers(0, 40, rows), draw.integers(0, 70, rows)
    tab, topic = draw.integers(1, 3, rows), ad % 3 + 1
    chance = 1 / (1 + np.exp(-(1.5 * (topic == 1) - 1.5 * (user % 2) + draw.normal(size=70)[ad] * 0.5)))
    click = (draw.random(rows) < chance).astype(np.float32)
    buy = np.where(tab == 1, (draw.random(rows) < chance / 3).astype(np.float32), np.nan).astype(np.float32)
    catalogue = np.arange(70)
    examples = Examples(
        time_ms=np.sort(draw.integers(0, 2 * 86_400_000, rows)).astype(np.int64),
        user=user,
        ad=ad,
        blocks={
            "user_ids": user[:, None],
            "user_numbers": (user[:, None] / 40).astype(np.float32),
            "context_ids": tab[:, None],
            "context_numbers": np.empty((rows, 0), np.float32),
            "ad_ids": np.stack([ad, topic], 1),
            "ad_numbers": (ad[:, None] / 70).astype(np.float32),
        },
        labels={"click": click, "buy": buy},
        truth={"click": chance.astype(np.float32), "buy": (chance / 3).astype(np.float32)},
        bid=np.ones(rows, np.float32),
    )
    ads: Blocks = {
        "ad_ids": np.stack([catalogue, catalogue % 3 + 1], 1),
        "ad_numbers": (catalogue[:, None] / 70).astype(np.float32),
    }
    return Source("tiny", SCHEMA, examples, Catalogue(catalogue, ads), Catalogue(np.arange(0), {}))


@pytest.fixture
def schema() -> Schema:
    return SCHEMA


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Source]:
    return make_source


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def stream_table(source: Source, dimension: int = 8) -> pa.Table:
    """A source's rows as an example stream has them, with embeddings and annotations drawn at random."""
    log, draw = source.examples, np.random.default_rng(5)
    count = len(log)
    columns: dict[str, Any] = {
        "key": pa.array([int(n).to_bytes(8, "little") * 2 for n in range(count)], pa.binary(16)),
        "time_ms": log.time_ms,
        "user": log.user,
        "ad": log.ad,
        "bid": log.bid.astype(float),
        "vertical": np.where(np.isnan(log.labels["buy"]), "clicks", "buys"),
        "tier": ["full"] * count,
        "version": np.ones(count, np.int64),
        "snapshot": ["s"] * count,
        "space": np.ones(count, np.int64),
        "z": pa.array([bytes(row) for row in draw.integers(0, 256, (count, dimension), np.uint8)], pa.binary()),
        "history": pa.array([b""] * count, pa.binary()),
    }
    for side in SIDES:
        for block in blocks_of(source.schema, side):
            named = {f"f.{each.name}": log.blocks[block.name][:, at] for at, each in enumerate(block.features)}
            columns |= named
    for task in source.schema.tasks:
        columns |= {f"y.{task}": log.labels[task], f"delay.{task}": np.full(count, np.nan, np.float32)}
        columns[f"a.{task}"] = np.where(np.isnan(log.labels[task]), np.nan, draw.random(count)).astype(np.float32)
    return pa.table(columns)


@pytest.fixture
def write_stream(tmp_path: Path) -> Callable[..., Path]:
    """`write_stream(source, commits, start=0, stop=None)`: rows of the source, in commits of that many rows."""

    def write(source: Source, commits: int, start: int = 0, stop: int | None = None) -> Path:
        folder = tmp_path / "stream"
        table = stream_table(source)
        end = len(table) if stop is None else stop
        writer = StreamWriter(folder, StreamForm(source.schema, 8, "int8"))
        for at in range(start, end, commits):
            writer.append(table.slice(at, min(commits, end - at)), at + 1, snapshot="s")
        writer.close()
        return folder

    return write

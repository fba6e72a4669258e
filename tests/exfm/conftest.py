"""A tiny log with something to learn, for the learning part's tests."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from exfm.data.examples import Blocks, Catalogue, Examples
from exfm.data.source import Source
from exfm.features.schema import Feature, Schema, Vertical

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

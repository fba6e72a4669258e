"""A seeded ad stream whose true probabilities are known: something to learn from where there is no log.

Users and ads come and go, the truth drifts slowly, two surfaces share the users and ads but not the outcome. The same
arguments give the same bytes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exfm.data.chunks import hour_of
from exfm.data.examples import Blocks, Catalogue, Examples
from exfm.data.simulated_world import (
    CATEGORIES,
    DEVICES,
    FORMATS,
    SEGMENTS,
    Ads,
    Floats,
    Impressions,
    Ints,
    TaskTruth,
    Users,
    World,
    make_world,
)
from exfm.features.encoding import MISSING
from exfm.features.schema import Schema, Side
from exfm.features.signature import blocks_of
from exfm.features.values import key_of

SCHEMA_FILE = Path(__file__).parent / "schemas" / "simulator.toml"
START_MS = 1_704_067_200_000
"""2024-01-01 00:00 UTC."""
TRUTHS = {
    "click": TaskTruth(rate=0.3, user=1.0, price=0.3, delay_median_s=10, delay_sigma=1.0),
    "buy": TaskTruth(rate=0.1, user=0.6, price=0.9, delay_median_s=1800, delay_sigma=1.3),
}
SHARES = {"shop_click": 0.55, "shop_buy": 0.45}
"""How the impressions are spread over the surfaces, each its own vertical."""
_HOUR_MS = 3_600_000
_DEVICE_SHARES = (0.25, 0.65, 0.1)
_AGE_MISSING = 0.05
_RATING_MISSING = 0.03

Columns = dict[str, NDArray[np.int64] | NDArray[np.float32]]


@dataclass(frozen=True)
class Scale:
    """How much to simulate; `users` and `ads` are all that ever come, about half are there at any one time."""

    rows: int = 60_000
    days: int = 6
    users: int = 2_400
    ads: int = 800


def simulate(seed: int = 0, scale: Scale | None = None) -> tuple[Schema, Examples, Catalogue, Catalogue]:
    """The schema, the examples in time order with their truth and delays, the ads, the users.

    Args:
        seed: decides everything.
        scale: the default is the demo's size.
    """
    scale = scale or Scale()
    schema = Schema.load(SCHEMA_FILE)
    draw = np.random.default_rng(seed)
    world = make_world(draw, scale.users, scale.ads, scale.days)
    users = _catalogue(schema, "user", _user_columns(draw, world))
    ads = _catalogue(schema, "ad", _ad_columns(draw, world))
    time_ms, counts = _times(draw, scale)
    seen = _impressions(draw, world, time_ms, counts)
    truth = {name: _truth(name, task, world, seen) for name, task in TRUTHS.items()}
    labels = {name: _outcomes(draw, chance) for name, chance in truth.items()}
    return (
        schema,
        Examples(
            time_ms=time_ms,
            user=users.key[seen.user],
            ad=ads.key[seen.ad],
            blocks={
                **{name: block[seen.user] for name, block in users.blocks.items()},
                **_blocks(schema, "context", _context_columns(seen)),
                **{name: block[seen.ad] for name, block in ads.blocks.items()},
            },
            labels=labels,
            bid=(world.ads.bid[seen.ad] * draw.lognormal(0, 0.2, scale.rows)).astype(np.float32),
            truth=truth,
            delay_s={name: _delays(draw, TRUTHS[name], label) for name, label in labels.items()},
        ),
        ads,
        users,
    )


def _times(draw: np.random.Generator, scale: Scale) -> tuple[Ints, Ints]:
    """Ascending times, int64 [N], busiest in the evening, and how many fall into each hour of the period."""
    slots = scale.days * 24
    busy = 1 + 0.8 * np.cos((np.arange(slots) % 24 - 20) / 24 * 2 * np.pi)
    counts = draw.multinomial(scale.rows, busy / busy.sum())
    slot = np.repeat(np.arange(slots), counts)
    return START_MS + np.sort(slot * _HOUR_MS + draw.integers(0, _HOUR_MS, scale.rows)), counts


def _impressions(draw: np.random.Generator, world: World, time_ms: Ints, counts: Ints) -> Impressions:
    rows = len(time_ms)
    return Impressions(
        user=_present(draw, world.users, counts),
        ad=_present(draw, world.ads, counts),
        surface=draw.choice(len(SHARES), rows, p=list(SHARES.values())),
        device=draw.choice(len(DEVICES), rows, p=_DEVICE_SHARES),
        hour=hour_of(time_ms),
        when=(time_ms - START_MS) / (len(counts) * _HOUR_MS),
    )


def _present(draw: np.random.Generator, who: Users | Ads, counts: Ints) -> Ints:
    """For each hour as many of those who are there as the hour has impressions, by their weight."""
    chosen = []
    for slot, count in enumerate(counts):
        weight = np.where((who.arrive <= slot / 24) & (slot / 24 < who.leave), who.weight, 0.0)
        chosen.append(draw.choice(len(weight), count, p=weight / weight.sum()))
    return np.concatenate(chosen)


def _truth(name: str, task: TaskTruth, world: World, seen: Impressions) -> NDArray[np.float32]:
    """The true probability, float32 [N]; NaN on the surfaces that don't have the task."""
    served = seen.surface == list(TRUTHS).index(name)
    logit = world.effects(task, seen)
    chance = _sigmoid(logit + _base_for(task.rate, logit[served]))
    return np.where(served, chance, np.nan).astype(np.float32)


def _base_for(rate: float, logit: Floats) -> float:
    """What to add to the logits so that the mean probability is `rate`; by bisection."""
    low, high = -20.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(logit + middle).mean() < rate else (low, middle)
    return low


def _sigmoid(logit: Floats) -> Floats:
    return 1 / (1 + np.exp(-logit))


def _outcomes(draw: np.random.Generator, truth: NDArray[np.float32]) -> NDArray[np.float32]:
    happened = draw.random(len(truth)) < truth
    return np.where(np.isnan(truth), np.nan, happened).astype(np.float32)


def _delays(draw: np.random.Generator, task: TaskTruth, label: NDArray[np.float32]) -> NDArray[np.float32]:
    after = draw.lognormal(np.log(task.delay_median_s), task.delay_sigma, len(label))
    return np.where(label == 1, after, np.nan).astype(np.float32)


def _user_columns(draw: np.random.Generator, world: World) -> Columns:
    users = world.users
    unknown_age = draw.random(len(users.age)) < _AGE_MISSING
    return {
        "user_id": 10_000 + np.arange(len(users.age)),
        "segment": _keys(SEGMENTS)[users.segment],
        "age": np.where(unknown_age, MISSING, users.age),
        "region": users.region,
        "visits": users.visits.astype(np.float32),
    }


def _ad_columns(draw: np.random.Generator, world: World) -> Columns:
    ads = world.ads
    unrated = draw.random(len(ads.rating)) < _RATING_MISSING
    return {
        "ad_id": 500_000 + np.arange(len(ads.rating)),
        "advertiser_id": 900_000 + ads.advertiser,
        "category": _keys(CATEGORIES)[ads.category],
        "format": _keys(FORMATS)[ads.format],
        "price": (20 * np.exp(ads.price)).astype(np.float32),
        "rating": np.where(unrated, 3.5, ads.rating).astype(np.float32),
    }


def _context_columns(seen: Impressions) -> Columns:
    return {
        "surface": _keys(tuple(SHARES))[seen.surface],
        "hour": seen.hour,
        "device": _keys(DEVICES)[seen.device],
    }


def _keys(names: tuple[str, ...]) -> Ints:
    return np.array([key_of(name) for name in names], np.int64)


def _catalogue(schema: Schema, side: Side, columns: Columns) -> Catalogue:
    key = schema.columns.user if side == "user" else schema.columns.ad
    return Catalogue.of(columns[key].astype(np.int64), _blocks(schema, side, columns))


def _blocks(schema: Schema, side: Side, columns: Columns) -> Blocks:
    rows = len(next(iter(columns.values())))
    made: Blocks = {}
    for block in blocks_of(schema, side):
        made[block.name] = np.empty((rows, block.width), block.dtype)
        for index, feature in enumerate(block.features):
            made[block.name][:, index] = columns[feature.name]
    return made

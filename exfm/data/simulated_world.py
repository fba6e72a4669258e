"""The simulator's hidden truth: who the users and ads are, and how probably an impression has an outcome.

Users and ads have latent factors of which their features tell most, but not all. With time t in [0, 1] over the period,

    logit = base + user bias + ad bias + <p_u, q_a> - price weight x sensitivity_u x price_a + context + drift(t).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SEGMENTS = ("bargain", "family", "fashion", "gamer", "home", "outdoor", "student", "tech")
CATEGORIES = ("beauty", "books", "clothes", "electronics", "food", "furniture", "garden", "shoes", "sports", "toys")
DEVICES = ("desktop", "phone", "tablet")
FORMATS = ("banner", "carousel", "video")
REGIONS = 10
AGE_BUCKETS = 6
FACTORS = 4
_DEVICE_EFFECT = np.array([0.25, 0.0, -0.25])
_FORMAT_EFFECT = np.array([-0.25, 0.05, 0.2])


@dataclass(frozen=True)
class TaskTruth:
    """How one outcome depends on the world.

    Attributes:
        rate: mean probability over the log.
        user: weight of the user's bias.
        price: weight of the price.
        delay_median_s, delay_sigma: of the log-normal time from the impression to the outcome.
    """

    rate: float
    user: float
    price: float
    delay_median_s: float
    delay_sigma: float


@dataclass(frozen=True)
class Users:
    """Hidden and visible sides of U users; present from `arrive` to `leave`, in days."""

    arrive: Floats
    leave: Floats
    weight: Floats
    segment: Ints
    age: Ints
    region: Ints
    visits: Floats
    bias: Floats
    sensitivity: Floats
    factors: Floats


@dataclass(frozen=True)
class Ads:
    """Hidden and visible sides of A ads; present from `arrive` to `leave`, in days."""

    arrive: Floats
    leave: Floats
    weight: Floats
    category: Ints
    advertiser: Ints
    format: Ints
    price: Floats
    rating: Floats
    bias: Floats
    bid: Floats
    factors: Floats


@dataclass(frozen=True)
class Impressions:
    """Who saw what, where and when.

    Attributes:
        user, ad, surface, device: int64 [N], positions in the world.
        hour: int64 [N], of the day.
        when: float64 [N], 0 at the start and 1 at the end of the period.
    """

    user: Ints
    ad: Ints
    surface: Ints
    device: Ints
    hour: Ints
    when: Floats


@dataclass(frozen=True)
class World:
    """Everything that a seed decides before the first impression."""

    users: Users
    ads: Ads
    category_drift: Floats
    hour_effect: Floats

    def effects(self, task: TaskTruth, seen: Impressions) -> Floats:
        """The logits but for their base, float64 [N]."""
        users, ads = self.users, self.ads
        taste: Floats = (users.factors[seen.user] * ads.factors[seen.ad]).sum(1)
        price = users.sensitivity[seen.user] * ads.price[seen.ad]
        context: Floats = self.hour_effect[seen.hour] + _DEVICE_EFFECT[seen.device]
        drift = (seen.when - 0.5) * (0.3 + self.category_drift[ads.category[seen.ad]])
        bias = task.user * users.bias[seen.user] + ads.bias[seen.ad]
        return bias + taste - task.price * price + context + drift


def make_world(draw: np.random.Generator, users: int, ads: int, days: int) -> World:
    """Draw a world of `users` users and `ads` ads, not all of whom are there at any one time."""
    hours = np.arange(24)
    return World(
        users=_make_users(draw, users, days),
        ads=_make_ads(draw, ads, days),
        category_drift=draw.normal(0, 0.5, len(CATEGORIES)),
        hour_effect=0.3 * np.cos((hours - draw.integers(18, 23)) / 24 * 2 * np.pi),
    )


def _make_users(draw: np.random.Generator, count: int, days: int) -> Users:
    segment = draw.choice(len(SEGMENTS), count, p=draw.dirichlet(np.full(len(SEGMENTS), 8.0)))
    age = np.clip(np.round(draw.normal(segment * AGE_BUCKETS / len(SEGMENTS), 1.2)), 0, AGE_BUCKETS - 1).astype(
        np.int64
    )
    engagement = draw.normal(0, 0.6, count)
    arrive, leave = _stay(draw, count, days, stays_days=6.0)
    taste_of_segment = _directions(draw, len(SEGMENTS))
    taste_of_age = 0.4 * _directions(draw, AGE_BUCKETS)
    return Users(
        arrive=arrive,
        leave=leave,
        weight=draw.lognormal(0.5 * engagement, 0.6),
        segment=segment,
        age=age,
        region=draw.integers(0, REGIONS, count),
        visits=np.exp(1.5 + engagement + draw.normal(0, 0.2, count)),
        bias=engagement + draw.normal(0, 0.15, count),
        sensitivity=draw.uniform(0.1, 0.9, len(SEGMENTS))[segment] + draw.normal(0, 0.1, count),
        factors=taste_of_segment[segment] + taste_of_age[age] + draw.normal(0, 0.1, (count, FACTORS)),
    )


def _make_ads(draw: np.random.Generator, count: int, days: int) -> Ads:
    advertisers = max(1, count // 10)
    advertiser = draw.integers(0, advertisers, count)
    home = draw.integers(0, len(CATEGORIES), advertisers)
    category = np.where(draw.random(count) < 0.8, home[advertiser], draw.integers(0, len(CATEGORIES), count))
    ad_format = draw.integers(0, len(FORMATS), count)
    quality = draw.normal(0, 0.5, count)
    arrive, leave = _stay(draw, count, days, stays_days=4.0)
    return Ads(
        arrive=arrive,
        leave=leave,
        weight=draw.lognormal(0, 0.8, count),
        category=category,
        advertiser=advertiser,
        format=ad_format,
        price=draw.normal(0, 0.3, len(CATEGORIES))[category] + draw.normal(0, 0.8, count),
        rating=np.clip(3.5 + quality + draw.normal(0, 0.12, count), 1, 5),
        bias=quality + _FORMAT_EFFECT[ad_format] + draw.normal(0, 0.2, advertisers)[advertiser],
        bid=draw.lognormal(-0.5, 0.5, count),
        factors=1.8 * _directions(draw, len(CATEGORIES))[category] + draw.normal(0, 0.1, (count, FACTORS)),
    )


def _directions(draw: np.random.Generator, count: int) -> Floats:
    """Random unit vectors, float64 [count, FACTORS]."""
    raw = draw.normal(size=(count, FACTORS))
    unit: Floats = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    return unit


def _stay(draw: np.random.Generator, count: int, days: int, stays_days: float) -> tuple[Floats, Floats]:
    """When each comes and goes, in days; about as many are there at the start as at the end."""
    arrive = draw.uniform(-stays_days, days, count)
    leave = arrive + draw.exponential(stays_days, count)
    # The first two never leave, so that no moment is empty.
    arrive[:2], leave[:2] = -1.0, days + 1.0
    return arrive, leave

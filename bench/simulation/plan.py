"""What happens in a world: its servers, the network between them, the load, and the faults; all drawn from a seed."""

from dataclasses import dataclass
from random import Random

from bench.simulation.backend import Health, Speed
from bench.simulation.network import Weather
from bench.simulation.requests import SIZES
from serving.admission.choose import LAWS
from serving.catalog import Batching
from serving.ladder.tier import DEFAULT_TIERS, Tier

LONGEST_S = 0.16
LOADS = (0.3, 0.9, 2.0, 5.0, 10.0)
BUDGETS_S = (0.015, 0.025, 0.060)
TIERS = (
    DEFAULT_TIERS,
    DEFAULT_TIERS,
    (Tier.FULL, Tier.TRIMMED, Tier.PRIOR),
    (Tier.FULL, Tier.LITE, Tier.PRIOR),
    (Tier.FULL, Tier.PRIOR),
    (Tier.TRIMMED, Tier.PRIOR),
    (Tier.LITE, Tier.PRIOR),
    (Tier.PRIOR,),
)


@dataclass(frozen=True)
class Kind:
    """How long requests arrive, and how many of them.

    Attributes:
        slowly: phases and faults last so many times as long as usual.
        from_s, until_s: bounds of the world's length.
        loads: one of which is offered.
        base_s, per_candidate_s: bounds of the backends' `Speed`; the slower, the fewer requests are an overload.
        instances: of a backend at most.
        unharmed: share of these worlds whose backends never fail.
    """

    slowly: float
    from_s: float
    until_s: float
    loads: tuple[float, ...] = LOADS
    base_s: tuple[float, float] = (2e-4, 3e-3)
    per_candidate_s: tuple[float, float] = (1e-6, 2e-5)
    instances: int = 3
    unharmed: float = 0.1

    @classmethod
    def draw(cls, random: Random) -> "Kind":
        """Draw one."""
        drawn = random.random()
        return BUSY if drawn < BUSY_SHARE else LONG if drawn < BUSY_SHARE + LONG_SHARE else SHORT


SHORT = Kind(1.0, 0.04, LONGEST_S)
LONG, LONG_SHARE = Kind(12.0, 0.5, 12 * LONGEST_S, LOADS[:2]), 0.017
"""Few worlds last long, under no more than the rated load: canaries come round, what was learned is forgotten."""
BUSY, BUSY_SHARE = Kind(4.0, 0.7, 2.0, LOADS[2:], (1e-3, 3e-3), (1e-5, 2e-5), 1, 0.5), 0.012
"""Fewer still are overloaded for longer than estimates keep, canaries pause and the door takes to open again."""


@dataclass(frozen=True)
class Life:
    """One backend's.

    Attributes:
        speed: how it serves while it is well.
        faults: when it becomes what, seconds from the first request.
    """

    speed: Speed
    faults: tuple[tuple[float, Health], ...]

    @classmethod
    def draw(cls, random: Random, seconds: float, kind: Kind, *, unharmed: bool) -> "Life":
        """Draw one for a world of that length and kind."""
        speed = Speed(
            base_s=random.uniform(*kind.base_s),
            per_candidate_s=random.uniform(*kind.per_candidate_s),
            sigma=random.uniform(0.05, 0.6),
            instances=random.randint(1, kind.instances),
            queue=random.choice((4, 32, 128)),
        )
        faults, at_s = [], seconds if unharmed else random.uniform(0.0, seconds)
        while at_s < seconds:
            faults += [(at_s, random.choice((Health.SLOW, Health.HUNG, Health.DEAD)))]
            at_s += kind.slowly * random.uniform(0.01, 0.15)
            faults += [(at_s, Health.WELL)]
            at_s += kind.slowly * random.uniform(0.03, 0.2)
        return cls(speed, tuple(faults))

    @property
    def mean_s(self) -> float:
        """Mean service time over the sizes, seconds."""
        return self.speed.base_s + sum(SIZES) / len(SIZES) * self.speed.per_candidate_s

    @property
    def was_slow(self) -> bool:
        """Whether a call that began in a slow phase may occupy it long after."""
        return any(health is Health.SLOW for _, health in self.faults)


@dataclass(frozen=True)
class Offer:
    """A vertical.

    Attributes:
        budget_s: its budget.
        tiers: that answer.
        lite: the time that its lite model takes over that of the full one; None: it has none.
        batching: in our own queues; None: requests go to the backends one by one.
        profile: mean seconds by candidates as an export says, on a machine of its own; empty: it says nothing.
    """

    budget_s: float
    tiers: tuple[Tier, ...]
    lite: float | None
    batching: Batching | None
    profile: tuple[tuple[int, float], ...] = ()

    @classmethod
    def draw(cls, random: Random) -> "Offer":
        """Draw one."""
        tiers = random.choice(TIERS)
        lite = random.uniform(0.1, 0.6) if Tier.LITE in tiers and random.random() < 0.7 else None
        batching = Batching(random.randint(1, 3), random.choice((1, 4, 8))) if random.random() < 0.7 else None
        base_s, slope_s = random.uniform(2e-4, 3e-3), random.uniform(1e-6, 2e-5)
        profile = tuple((size, base_s + slope_s * size) for size in SIZES) if random.random() < 0.5 else ()
        return cls(random.choice(BUDGETS_S), tiers, lite, batching, profile)


@dataclass(frozen=True)
class Callers:
    """Those who ask.

    Attributes:
        load: offered candidate cost over what an average one of the backends can do, outside bursts.
        bad: every so many requests hold what no model takes; 0: none.
        crowd: from, until and for how long requests wait before they are taken up; empty: the way in is free.
        gone_s: when one frontend's callers lose their connection, and all that they asked for is cancelled.
    """

    load: float
    bad: int
    crowd: tuple[float, float, float] | tuple[()]
    gone_s: tuple[float, ...]

    @classmethod
    def draw(cls, random: Random, seconds: float, kind: Kind) -> "Callers":
        """Draw them for a world of that length and kind."""
        crowd: tuple[float, float, float] | tuple[()] = ()
        if random.random() < 0.2:
            from_s = random.uniform(0.0, seconds)
            crowd = (from_s, from_s + kind.slowly * random.uniform(0.02, 0.1), 10 ** random.uniform(-3.5, -1.5))
        return cls(
            load=random.choice(kind.loads),
            bad=random.choice((0, 0, 0, 7, 50)),
            crowd=crowd,
            gone_s=tuple(random.uniform(0.0, seconds) for _ in range(random.choice((0, 0, 1)))),
        )


@dataclass(frozen=True)
class Plan:
    """A world's.

    Attributes:
        seconds: how long requests arrive.
        lives: one per backend.
        weather: per frontend, and per backend of it; each frontend has its share of every backend.
        law: name of the admission law.
        offers: one per vertical; all share the gates and the backends.
        callers: of all frontends.
    """

    seconds: float
    lives: tuple[Life, ...]
    weather: tuple[tuple[Weather, ...], ...]
    law: str
    offers: tuple[Offer, ...]
    callers: Callers

    @classmethod
    def draw(cls, random: Random) -> "Plan":
        """Draw one."""
        kind = Kind.draw(random)
        seconds, unharmed = random.uniform(kind.from_s, kind.until_s), random.random() < kind.unharmed
        number = random.choice((1, 1, 1, 2, 3))
        lives = tuple(Life.draw(random, seconds, kind, unharmed=unharmed) for _ in range(number))
        frontends, calm = random.choice((1, 1, 2, 3)), random.random() < 0.3
        weather = tuple(
            tuple(Weather() if calm else Weather.draw(random, seconds) for _ in lives) for _ in range(frontends)
        )
        offers = tuple(Offer.draw(random) for _ in range(random.choice((1, 1, 2))))
        return cls(seconds, lives, weather, random.choice(LAWS), offers, Callers.draw(random, seconds, kind))

    @property
    def share(self) -> float:
        """Of each backend, for each frontend."""
        return 1 / len(self.weather)

    def gap_s(self, random: Random) -> float:
        """Seconds to the next request."""
        per_s = sum(life.speed.instances / life.mean_s for life in self.lives) / len(self.lives)
        burst = 4.0 if random.random() < 0.05 else 1.0
        return random.expovariate(self.callers.load * burst * per_s)

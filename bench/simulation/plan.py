"""What happens in a world: the backends, the load on them, and their faults; all drawn from a seed."""

from dataclasses import dataclass
from random import Random

from bench.simulation.backend import Health, Speed
from serving.admission.choose import LAWS
from serving.catalog import Batching

SIZES = (20, 100, 200, 500, 2000)


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
    def draw(cls, random: Random, seconds: float) -> "Life":
        """Draw one for a world of that length."""
        speed = Speed(
            base_s=random.uniform(2e-4, 3e-3),
            per_candidate_s=random.uniform(1e-6, 2e-5),
            sigma=random.uniform(0.05, 0.6),
            instances=random.randint(1, 3),
            queue=random.choice((4, 32, 128)),
        )
        faults, at_s = [], random.uniform(0.0, seconds)
        while at_s < seconds:
            faults += [(at_s, random.choice((Health.SLOW, Health.HUNG, Health.DEAD)))]
            at_s += random.uniform(0.01, 0.15)
            faults += [(at_s, Health.WELL)]
            at_s += random.uniform(0.03, 0.2)
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
class Plan:
    """A world's.

    Attributes:
        lives: one per backend.
        law: name of the admission law.
        seconds: how long requests arrive.
        load: offered candidate cost over what an average one of the backends can do, outside bursts.
        batching: in our own queue; None: requests go to the backends one by one.
    """

    lives: tuple[Life, ...]
    law: str
    seconds: float
    load: float
    batching: Batching | None

    @classmethod
    def draw(cls, random: Random) -> "Plan":
        """Draw one."""
        seconds = random.uniform(0.04, 0.16)
        lives = tuple(Life.draw(random, seconds) for _ in range(random.choice((1, 1, 1, 2, 3))))
        batching = Batching(random.randint(1, 3), random.choice((1, 4, 8))) if random.random() < 0.7 else None
        return cls(lives, random.choice(LAWS), seconds, random.choice((0.3, 0.9, 2.0, 5.0, 10.0)), batching)

    def gap_s(self, random: Random) -> float:
        """Seconds to the next request."""
        per_s = sum(life.speed.instances / life.mean_s for life in self.lives) / len(self.lives)
        burst = 4.0 if random.random() < 0.05 else 1.0
        return random.expovariate(self.load * burst * per_s)

"""How many candidates requests carry."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DLRM_V2 = (100,) * 2 + (200,) * 12 + (300,) * 2 + (400, 500, 600, 700)
"""The 20 equally likely sizes of MLPerf Inference's DLRM-v2 benchmark, rounds 3.1 to 5.1; their mean is 270."""
DLRM_V3 = 2048
"""Candidates of every request of MLPerf Inference's DLRM-v3 benchmark, from round 6.0 on."""


class SizesError(ValueError):
    """No such sizes, or the vertical doesn't take them."""


@dataclass(frozen=True)
class Sizes:
    """Equally likely numbers of candidates."""

    name: str
    quantiles: tuple[int, ...]

    @property
    def distinct(self) -> tuple[int, ...]:
        """Each size once, increasing."""
        return tuple(sorted(set(self.quantiles)))

    @property
    def mean(self) -> float:
        """Candidates per request."""
        return sum(self.quantiles) / len(self.quantiles)

    def draw(self, count: int, seed: int) -> NDArray[np.int64]:
        """Sizes of `count` requests, int64 [count]."""
        return np.random.default_rng(seed).choice(np.array(self.quantiles, np.int64), count)

    def within(self, most: int, vertical: str) -> "Sizes":
        """Itself, or `SizesError` if the vertical takes fewer."""
        if self.distinct[-1] > most:
            raise SizesError(f"candidates {self.name}: {self.distinct[-1]} in one request, but {vertical} takes {most}")
        return self


def fixed(count: int) -> Sizes:
    """Always the same."""
    return Sizes(str(count), (count,))


NAMED: dict[str, Callable[[], Sizes]] = {
    "dlrm-v2": lambda: Sizes("dlrm-v2", DLRM_V2),
    "dlrm-v3": lambda: Sizes("dlrm-v3", (DLRM_V3,)),
}


def sizes_of(text: str) -> Sizes:
    """`200`, `dlrm-v2` or `dlrm-v3` as a person writes it; `SizesError` for anything else."""
    if text in NAMED:
        return NAMED[text]()
    if text.isascii() and text.isdecimal() and int(text) >= 1:
        return fixed(int(text))
    raise SizesError(f"candidates {text!r}: expected a number >= 1, {' or '.join(NAMED)}")

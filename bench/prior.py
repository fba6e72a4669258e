"""`python -m bench.prior`: look-up and order of the prior tier, beside bisection and a stable argsort, taking turns."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.ladder.order import Order, order
from serving.ladder.prior import Prior

CATALOGUES = (7_583, 100_000, 1_000_000)
CANDIDATES = 1500
UNKNOWN = 75
ROUNDS = 400

Ads = NDArray[np.int64]
Rates = NDArray[np.float32]


def main() -> int:
    """Measure; prints one JSON object per catalogue. Fails if the answers differ."""
    draw = np.random.default_rng(0)
    for size in CATALOGUES:
        scattered = np.unique(draw.integers(0, 2**60, size))
        for kind, keys in (("numbered", np.arange(size)), ("scattered", scattered)):
            rates = draw.random((len(keys), 1), dtype=np.float32)
            prior = Prior(keys, rates, np.full(1, 0.5, np.float32))
            sys.stdout.write(json.dumps({"ads": size, "keys": kind, **_compare(prior, draw)}) + "\n")
    return 0


def bisect(prior: Prior, ads: Ads) -> Rates:
    """`Prior.lookup` by bisection."""
    place = np.minimum(np.searchsorted(prior.ads, ads), len(prior.ads) - 1)
    return np.where((prior.ads[place] == ads)[:, None], prior.probability[place], prior.default)


def argsort(bids: NDArray[np.float64], probability: Rates) -> Order:
    """`order` by a stable argsort."""
    expected = bids * probability[:, 0]
    index = np.argsort(-expected, kind="stable")
    return Order(index, expected[index])


def _compare(prior: Prior, draw: np.random.Generator) -> dict[str, Any]:
    spent_us: dict[str, list[float]] = {"lookup": [], "bisect": [], "order": [], "argsort": []}
    for _ in range(ROUNDS):
        known = draw.choice(prior.ads, CANDIDATES - UNKNOWN)
        ads, bids = np.concatenate([known, draw.integers(0, 2**60, UNKNOWN)]), draw.lognormal(size=CANDIDATES)
        slow = _timed(spent_us["bisect"], bisect, prior, ads)
        found = _timed(spent_us["lookup"], prior.lookup, ads)
        expected = _timed(spent_us["argsort"], argsort, bids, found)
        ordered = _timed(spent_us["order"], order, bids, found)
        np.testing.assert_array_equal(found, slow)
        np.testing.assert_array_equal(ordered.index, expected.index)
    median = {name: float(np.median(values)) for name, values in spent_us.items()}
    ratios = {
        "lookup_ratio": round(median["lookup"] / median["bisect"], 2),
        "order_ratio": round(median["order"] / median["argsort"], 2),
    }
    return {**{f"{name}_us": round(value) for name, value in median.items()}, **ratios}


def _timed(spent_us: list[float], work: Callable[..., Any], *arguments: Any) -> Any:
    began_s = time.perf_counter()
    made = work(*arguments)
    spent_us.append(1e6 * (time.perf_counter() - began_s))
    return made


if __name__ == "__main__":
    sys.exit(main())

"""`exfm-loadtest compare`: two results, as ratios with their intervals."""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.checking.outcomes import BAD, Outcome
from loadtest.commands import arguments
from loadtest.commands.likeness import unlike
from loadtest.report.document import kind_of
from loadtest.verdict.judge import FAIL, INVALID, PASS, WORDS
from loadtest.verdict.rise import Rise
from loadtest.verdict.stats import Interval, ratio_interval
from loadtest.verdict.tally import Tally

HELP = "compare two results: ratios with confidence intervals"
EXAMPLES = """
examples:
  exfm-loadtest compare before/run.json after/run.json
  exfm-loadtest compare before/run.json after/run.json --tolerance 0.05 --json

Ratios are of the second over the first. The verdict is fail if the second is worse by more than the tolerance with
95 % confidence in p50, p99, goodput, full-tier share or the share of errors; or if it answers wrongly where the first
didn't. Runs that can't be compared, because one of them was invalid, or because load, requests, the way of asking,
length, budget or machine differ, give exit code 3; --anyway compares them all the same. Of two capacities, whose loads
differ by what they found, the capacities are compared and nothing else.
"""


class ComparisonError(ValueError):
    """A file is no result that can be compared; the message names it."""


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add = parser.add_argument
    add("first", type=Path, metavar="FIRST", help="a result of run, replay, soak, overload or capacity")
    add("second", type=Path, metavar="SECOND", help="another of the same command")
    add("--tolerance", type=arguments.share, default=0.1, metavar="SHARE", help="how much worse it may be (0.1)")
    add("--anyway", action="store_true", help="compare what wasn't measured alike, too")
    add("--rounds", type=arguments.count, default=500, metavar="N", help="of the bootstrap (500)")
    add("--json", action="store_true", help="print the result as JSON on stdout")


def main(asked: argparse.Namespace) -> int:
    """Compare; the exit code."""
    documents = [_read(path) for path in (asked.first, asked.second)]
    tallies = [_tally(path, each) for path, each in zip((asked.first, asked.second), documents, strict=True)]
    differences = unlike(*documents)
    rises: dict[str, Rise] = {}
    if all(each["kind"] == "capacity" for each in documents):
        ratios = {"capacity_rps": _capacity_ratio(*documents)}
    else:
        ratios = compared(*tallies, rounds=asked.rounds)
        rises = risen(*tallies)
    worse = [name for name, ratio in ratios.items() if is_worse(name, ratio, asked.tolerance)]
    # A wrong answer is a fault, not chance: of it no more than the figure itself is asked.
    worse += [name for name, each in rises.items() if each.is_worse(asked.tolerance, sure=name != "wrong_share")]
    code = INVALID if differences and not asked.anyway else FAIL if worse else PASS
    plain = {
        "kind": "compare",
        "verdict": WORDS[code],
        "exit_code": code,
        "ratios": {name: ratio.plain() for name, ratio in ratios.items()},
        "rises": {name: each.plain() for name, each in rises.items()},
        "worse": worse,
        "differences": differences,
    }
    sys.stdout.write(json.dumps(plain) + "\n" if asked.json else _text(plain, ratios, rises))
    return code


def compared(first: Tally, second: Tally, *, rounds: int) -> dict[str, Interval]:
    """Second over first; figures that are 0 in the first are left out, as no ratio exists."""
    samples = {
        "p50_ms": (first.latencies.sample_ms(), second.latencies.sample_ms(), _percentile(50.0)),
        "p99_ms": (first.latencies.sample_ms(), second.latencies.sample_ms(), _percentile(99.0)),
    }
    ratios = {name: ratio_interval(b, a, figure, rounds=rounds) for name, (a, b, figure) in samples.items()}
    for name, hits in (("goodput_share", "in_time"), ("full_in_time_share", "full_in_time")):
        if getattr(first, hits):
            ratios[name] = _share_ratio(first, second, hits, rounds)
    return ratios


def risen(first: Tally, second: Tally) -> dict[str, Rise]:
    """Shares that a sound server has at 0, so that no ratio tells of them."""
    names = {"error_share": BAD, "wrong_share": (Outcome.WRONG,)}
    return {
        name: Rise(*((sum(tally.tiers[one] for one in kinds), tally.offered) for tally in (first, second)))
        for name, kinds in names.items()
    }


def is_worse(name: str, ratio: Interval, tolerance: float) -> bool:
    """Whether the second is worse than the first by more than the tolerance, for sure."""
    return ratio.low > 1 + tolerance if name.endswith("_ms") else ratio.high < 1 - tolerance


def _capacity_ratio(first: dict[str, Any], second: dict[str, Any]) -> Interval:
    """Second over first, with the rates that for sure hold and don't; 0 or infinite where there is none."""
    (low, high), (least, most) = (each.get("capacity_interval_rps") or (None, None) for each in (first, second))
    ratio = second["capacity_rps"] / first["capacity_rps"]
    return Interval(ratio, least / high if least and high else 0.0, most / low if most and low else math.inf)


def _percentile(percent: float) -> Any:
    def figure(sample: NDArray[np.float64]) -> float:
        return float(np.percentile(sample, percent))

    return figure


def _share_ratio(first: Tally, second: Tally, hits: str, rounds: int) -> Interval:
    draw = np.random.default_rng(0)
    shares = [getattr(tally, hits) / tally.offered for tally in (first, second)]
    one, two = (
        draw.binomial(tally.offered, share, rounds) / tally.offered
        for tally, share in zip((first, second), shares, strict=True)
    )
    low, high = np.percentile(two / np.maximum(one, 1 / first.offered), [2.5, 97.5])
    return Interval(shares[1] / shares[0], float(low), float(high))


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ComparisonError(f"{path}: not JSON: {error}") from error
    if not isinstance(raw, dict) or not kind_of(raw) or not {"tally", "conditions", "invalid"} <= raw.keys():
        raise ComparisonError(f"{path}: not a result of exfm-loadtest")
    if raw["kind"] in ("capacity", "overload") and not isinstance(raw.get("capacity_rps"), float):
        raise ComparisonError(f"{path}: holds no capacity")
    return raw


def _tally(path: Path, document: dict[str, Any]) -> Tally:
    try:
        made = Tally.from_plain(document["tally"])
    except (ValueError, KeyError, TypeError) as error:
        raise ComparisonError(f"{path}: its tally can't be read: {error}") from error
    if not made.offered:
        raise ComparisonError(f"{path}: holds no request")
    return made


def _text(plain: dict[str, Any], ratios: dict[str, Interval], rises: dict[str, Rise]) -> str:
    lines = [f"{'second / first':<20}{'ratio':>8}   95 % interval"]
    lines += [f"{name:<20}{each.value:>8.3f}   {each.low:.3f} to {each.high:.3f}" for name, each in ratios.items()]
    lines += [f"{name:<20}{each.line()}" for name, each in rises.items()]
    lines += [f"worse: {name}" for name in plain["worse"]]
    lines += [f"measured differently, {why}" for why in plain["differences"]]
    return "\n".join([*lines, f"verdict: {plain['verdict']}", ""])

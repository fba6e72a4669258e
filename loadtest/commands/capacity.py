"""`exfm-loadtest capacity`: the largest Poisson rate that is served in full, in time."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.arrivals.schedule import poisson, some_arrivals
from loadtest.arrivals.shapes import steady
from loadtest.commands import arguments, options
from loadtest.commands.options import Setup
from loadtest.commands.output import deliver, laid_over, read_events, seen_of
from loadtest.commands.run import document_of
from loadtest.driving.conditions import conditions
from loadtest.driving.measure import Measured, measure
from loadtest.driving.search import NoCapacityError, find_capacity
from loadtest.report.document import Event
from loadtest.verdict.judge import FAIL, INVALID, WORDS, Verdict, faults_of_generator, judge
from loadtest.verdict.stats import Interval, wilson
from loadtest.verdict.tally import Tally, tally_of

HELP = "find the largest Poisson rate with p99 within the budget"
EXAMPLES = """
examples:
  exfm-loadtest capacity --vertical feed_click
  exfm-loadtest capacity --vertical feed_click --candidates dlrm-v2 --precision 0.03 --probe-s 10

A rate holds if 99 % of its requests are answered inside the budget, by the full tier. A probe goes on until the 95 %
interval of that share lies on one side, at most for three times its length; then the share itself decides. The rate is
doubled or halved and bisected to the precision, where a hiccup's probe is made again, then confirmed: two longer runs
of three must hold. The objectives are judged on the last of them. Beside the capacity stand the rates around it of
which the requests of all tries together say for sure (95 % interval) that the one holds and the other doesn't.
"""
SHARE = 0.99
"""p99 within the budget is the same as: at least this share within the budget."""
PARTS = 3
PATIENCE = 3


@dataclass
class Prober:
    """Runs probes and remembers them; of rates that held also the last drive, the counts, and how many drives.

    Attributes:
        seen: of each drive its zero by the time of day, and what the answers themselves showed.
    """

    setup: Setup
    seed: int
    any_tier: bool
    probes: list[dict[str, Any]] = field(default_factory=list)
    held: dict[float, tuple[Measured, Tally, int]] = field(default_factory=dict)
    seen: list[tuple[float, list[Event]]] = field(default_factory=list)

    def holds(self, rate_rps: float, seconds: float) -> bool:
        """Whether a rate holds; a probe that the generator spoiled is made again, up to `PATIENCE` in all."""
        for _ in range(PATIENCE):
            good = self._probe(rate_rps, seconds)
            if good or not self.probes[-1]["invalid"]:
                break
        return good

    def _probe(self, rate_rps: float, seconds: float) -> bool:
        total = Tally(self.setup.aim.budget_s)
        parts = 0
        while parts < PARTS:
            parts += 1
            measured = self._part(rate_rps, seconds)
            total.merge(tally_of(measured.result, total.budget_s))
            share = self._share(total)
            if share.low > SHARE or share.high < SHARE:
                break
        invalid = faults_of_generator(total, self.setup.limits)
        good = share.value >= SHARE and not invalid
        if good:
            self.held[rate_rps] = measured, total, parts
        self._remember(rate_rps, total, share, good, invalid)
        return good

    def _part(self, rate_rps: float, seconds: float) -> Measured:
        # Another seed for each, so that a lucky schedule isn't lucky twice.
        self.seed += 1
        schedule_s = some_arrivals(steady(rate_rps, seconds), self.seed)
        measured = measure(self.setup.aim, schedule_s, seconds, f"{rate_rps:.0f}/s")
        self.seen.append(seen_of(measured))
        return measured

    def _share(self, tally: Tally) -> Interval:
        return wilson(self._hits(tally), tally.offered)

    def _hits(self, tally: Tally) -> int:
        return tally.in_time if self.any_tier else tally.full_in_time

    def _remember(self, rate_rps: float, total: Tally, share: Interval, good: bool, invalid: tuple[str, ...]) -> None:
        p99_ms = total.latencies.percentile_ms(99)
        said = "holds" if good else f"invalid: {invalid[0]}" if invalid else "doesn't hold"
        self.probes.append(
            {
                "rate_rps": rate_rps,
                "offered": total.offered,
                "hits": self._hits(total),
                "share": share.plain(),
                "p99_ms": p99_ms,
                "p99_cut": "p99_ms" in total.cut(),
                "late_share": total.late / total.offered,
                "in_time_share": total.in_time / total.offered,
                "full_share": total.full_in_time / total.offered,
                "holds": good,
                "invalid": list(invalid),
                "said": said,
            }
        )
        sys.stderr.write(f"  {rate_rps:8.1f}/s  p99 {p99_ms:7.2f} ms  full in time {share.value:7.2%}  {said}\n")


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    options.add_target(parser)
    options.add_workload(parser)
    add = parser.add_argument
    add("--first", type=arguments.positive, default=25.0, metavar="RPS", help="where the search starts (25)")
    add("--probe-s", type=arguments.positive, default=5.0, metavar="S", help="of a probe, at least (5)")
    add("--confirm-s", type=arguments.positive, default=15.0, metavar="S", help="of a confirming run, at least (15)")
    add("--precision", type=arguments.positive, default=0.06, metavar="SHARE", help="of the bracket (0.06)")
    add("--any-tier", action="store_true", help="count answers of lesser tiers, too")
    options.add_verdict(parser)
    options.add_output(parser, "capacity")


def main(asked: argparse.Namespace) -> int:
    """Search; the exit code."""
    read_events(asked.events)
    setup = options.set_up(asked)
    facts = {**setup.facts, "seed": asked.seed, "candidates": asked.candidates, "any_tier": asked.any_tier}
    facts |= {"probe_s": asked.probe_s, "confirm_s": asked.confirm_s, "precision": asked.precision}
    made, prober = conditions(), Prober(setup, asked.seed, asked.any_tier)
    try:
        rate_rps = search(prober, asked)
    except NoCapacityError as error:
        return none_found(asked, prober, error)
    document, verdict = found(prober, rate_rps, asked.events)
    low, high = (f"{bound:.1f}" if bound else "?" for bound in document["capacity_interval_rps"])
    text = f"capacity {rate_rps:.1f} [{low}, {high}] requests/s of {asked.candidates} candidates, "
    text += document["bracket_said"]
    return deliver(asked, {**document, "conditions": {**facts, **made}}, verdict, text)


def search(prober: Prober, asked: argparse.Namespace) -> float:
    """The capacity in requests per second; `NoCapacityError` if there is none."""
    measure(prober.setup.aim, poisson(asked.first, max(round(asked.first), 1), 0), 1.0, "warm-up")
    return find_capacity(prober.holds, asked.first, asked.probe_s, asked.confirm_s, precision=asked.precision)


def none_found(asked: argparse.Namespace, prober: Prober, error: NoCapacityError) -> int:
    """Say so, as JSON, too, if that is wanted; the exit code: nothing is said of a server that the generator kept from
    its load.
    """
    invalid = prober.probes[-1]["invalid"]
    code = INVALID if invalid else FAIL
    sys.stderr.write(f"exfm-loadtest {asked.name}: {'; '.join([str(error), *invalid])}\n")
    if asked.json:
        plain = {"kind": asked.name, "verdict": WORDS[code], "exit_code": code, "invalid": invalid}
        sys.stdout.write(json.dumps({**plain, "capacity_rps": None, "probes": prober.probes}) + "\n")
    return code


def sure_bounds(probes: Sequence[Mapping[str, Any]], rate_rps: float) -> tuple[float | None, float | None]:
    """The greatest rate up to the capacity that holds for sure, and the least above it that for sure does not.

    Sure is what the interval of all requests at that rate says, of every try that the generator did not spoil: the
    search stops at the tries that please it, their sum does not.
    """
    hits: Counter[float] = Counter()
    offered: Counter[float] = Counter()
    for probe in probes:
        if not probe["invalid"]:
            hits[probe["rate_rps"]] += probe["hits"]
            offered[probe["rate_rps"]] += probe["offered"]
    shares = {rate: wilson(hits[rate], offered[rate]) for rate in offered}
    held = [rate for rate, share in shares.items() if share.low > SHARE and rate <= rate_rps]
    failed = [rate for rate, share in shares.items() if share.high < SHARE and rate > rate_rps]
    return max(held, default=None), min(failed, default=None)


def found(prober: Prober, rate_rps: float, told: Path | None) -> tuple[dict[str, Any], Verdict]:
    """The document of a search: its probes as a sweep, and the verdict on the confirming run at the rate found.

    `told` is the file of events, if there is one.
    """
    last = {probe["rate_rps"]: probe for probe in prober.probes}
    failed = [rate for rate, probe in last.items() if rate > rate_rps and not probe["holds"]]
    measured, tally, parts = prober.held[rate_rps]
    invalid = []
    # What the generator couldn't send doesn't tell what the server could have served.
    if failed and last[min(failed)]["invalid"]:
        invalid.append("the generator was the bottleneck just above this rate: the server's capacity is at least this")
    verdict = judge(tally.figures(), prober.setup.objectives, invalid)
    events = laid_over(told, prober.seen, measured.zero_unix_s)
    document = document_of("capacity", prober.setup, measured, tally=tally, verdict=verdict, events=events, parts=parts)
    above = f"{min(failed):.1f} didn't hold" if failed else "nothing above it was tried"
    return {
        **document,
        "of": f"the confirming run at {rate_rps:.1f}/s",
        "capacity_rps": rate_rps,
        "capacity_interval_rps": sure_bounds(prober.probes, rate_rps),
        "bracket_rps": [rate_rps, min(failed) if failed else None],
        "bracket_said": above,
        "knee_rps": rate_rps,
        "sweep": [_swept(probe) for probe in sorted(prober.probes, key=lambda probe: float(probe["rate_rps"]))],
        "probes": prober.probes,
    }, verdict


def _swept(probe: dict[str, Any]) -> dict[str, Any]:
    return {
        "offered_rps": probe["rate_rps"],
        "goodput_rps": probe["rate_rps"] * probe["in_time_share"],
        "full_goodput_rps": probe["rate_rps"] * probe["full_share"],
        "late_share": probe["late_share"],
        "p99_ms": probe["p99_ms"],
        "p99_cut": probe["p99_cut"],
        "said": probe["said"],
    }

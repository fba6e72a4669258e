"""`exfm-loadtest soak`: one load for a long time, and whether anything drifts."""

import argparse
import asyncio
import contextlib
import math
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import psutil
from tqdm import tqdm

from loadtest import arguments
from loadtest.arrivals import arrivals
from loadtest.commands import options
from loadtest.commands.options import Setup
from loadtest.commands.output import deliver, read_events
from loadtest.commands.run import document_of, summary
from loadtest.conditions import conditions, machine_cpu_s
from loadtest.document import Event, events_of, merged, slice_of
from loadtest.measure import Measured, quiet
from loadtest.objectives import Objective
from loadtest.rank_target import RankTarget
from loadtest.shapes import steady
from loadtest.stats import Interval, ratio_interval
from loadtest.tally import Tally, tally_of
from loadtest.target import Result, drive
from loadtest.verdict import faults_of_generator, judge

HELP = "one load for a long time; whether latency or memory drifts"
EXAMPLES = """
examples:
  exfm-loadtest soak --vertical feed_click --rate 100 --seconds 86400 --pid 4711

Windows follow one another without a pause and are counted one by one. p99_drift is the p99 of the last third of them
over that of the first third; rss_mb_per_h is the slope of the resident memory of --pid and its descendants. Without a
file: the usual objectives, and p99_drift at most 1.25.
"""
DRIFT = 1.25


@dataclass
class Windows:
    """What has been counted so far: one entry per window, in order."""

    tallies: list[Tally] = field(default_factory=list)
    slices: list[dict[str, Any]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    last: Result | None = None

    def enter(self, result: Result, at_s: float, budget_s: float) -> None:
        """Count a window that began at `at_s`."""
        self.tallies.append(tally_of(result, budget_s))
        self.slices.append(slice_of(result.record, at_s, result.seconds, budget_s))
        self.events += [replace(event, at_s=event.at_s + at_s) for event in events_of(result.record)]
        self.last = result


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    options.add_target(parser)
    options.add_workload(parser)
    add = parser.add_argument
    add("--rate", type=arguments.positive, required=True, metavar="RPS", help="requests per second")
    add("--seconds", type=arguments.positive, default=3600.0, metavar="S", help="length (3600)")
    add("--window-s", type=arguments.positive, default=60.0, metavar="S", help="length of a window (60)")
    add("--pid", type=arguments.count, metavar="PID", help="of the server, if it runs here: watch its memory")
    options.add_verdict(parser)
    options.add_output(parser, "soak")


def main(asked: argparse.Namespace) -> int:
    """Run it; the exit code."""
    events = read_events(asked.events)
    setup = options.set_up(asked)
    facts = {**setup.facts, "shape": "steady", "rate_rps": asked.rate, "seed": asked.seed, **conditions()}
    before_s, windows = machine_cpu_s(), Windows()
    with quiet():
        asyncio.run(_soak(asked, setup, windows))
    assert windows.last is not None
    total = Tally(setup.aim.budget_s)
    for tally in windows.tallies:
        total.merge(tally)
    extra = () if asked.objectives else (Objective("p99_drift", DRIFT),)
    figures = {**total.figures(), **drift(windows, asked.window_s)}
    verdict = judge(figures, (*setup.objectives, *extra), faults_of_generator(total, setup.limits))
    # The process's own time can't be told from the overlapping windows, so the others' includes it.
    measured = Measured(windows.last, machine_cpu_s() - before_s)
    all_events = merged(events, windows.events)
    document = document_of(
        "soak", setup, measured, tally=total, verdict=verdict, events=all_events, parts=len(windows.tallies)
    )
    document |= {"timeline": windows.slices, "rss_mb": windows.rss_mb, "conditions": facts}
    return deliver(asked, document, verdict, summary(total, asked.window_s * len(windows.tallies)))


def drift(windows: Windows, window_s: float) -> dict[str, Interval]:
    """`p99_drift` of three windows or more, `rss_mb_per_h` of three readings or more."""
    figures = {}
    third = len(windows.tallies) // 3
    if third:
        first, last = Tally(1.0), Tally(1.0)
        for tally in windows.tallies[:third]:
            first.merge(tally)
        for tally in windows.tallies[-third:]:
            last.merge(tally)
        samples = last.latencies.sample_ms(), first.latencies.sample_ms()
        figures["p99_drift"] = ratio_interval(*samples, lambda sample: float(np.percentile(sample, 99)), rounds=300)
    if len(windows.rss_mb) >= 3:
        figures["rss_mb_per_h"] = slope(windows.rss_mb, window_s / 3600)
    return figures


def slope(values: list[float], step: float) -> Interval:
    """Least squares slope of evenly spaced values with the interval of its standard error (1.96 of them each way)."""
    x = np.arange(len(values)) * step
    fitted, covariance = np.polyfit(x, values, 1, cov="unscaled")
    rest = np.array(values) - np.polyval(fitted, x)
    half = 1.96 * math.sqrt(float(covariance[0, 0]) * float(np.sum(rest**2)) / max(len(values) - 2, 1))
    return Interval(float(fitted[0]), float(fitted[0]) - half, float(fitted[0]) + half)


async def _soak(asked: argparse.Namespace, setup: Setup, windows: Windows) -> None:
    count = max(round(asked.seconds / asked.window_s), 1)
    async with RankTarget(setup.aim.address, setup.aim.workload, setup.aim.connections) as target:

        async def window(index: int) -> Result:
            schedule_s = arrivals(steady(asked.rate, asked.window_s), asked.seed + index)
            timeout_s = setup.aim.timeout_s
            return await drive(target, schedule_s, setup.aim.budget_s, timeout_s=timeout_s, seconds=asked.window_s)

        await _one_after_the_other(window, count, asked, setup, windows)


async def _one_after_the_other(
    window: Callable[[int], Awaitable[Result]], count: int, asked: argparse.Namespace, setup: Setup, windows: Windows
) -> None:
    """Start each window when the one before is over by the clock, though not all of its answers may be in."""
    start_s, before = time.monotonic(), None
    for index in tqdm(range(count + 1), desc="soak", unit="window", file=sys.stderr, leave=False):
        running = asyncio.ensure_future(window(index)) if index < count else None
        if before is not None:
            windows.enter(await before, (index - 1) * asked.window_s, setup.aim.budget_s)
            windows.rss_mb += _rss_mb(asked.pid)
        await asyncio.sleep(max(start_s + (index + 1) * asked.window_s - time.monotonic(), 0.0) if running else 0.0)
        before = running


def _rss_mb(pid: int | None) -> list[float]:
    if pid is None:
        return []
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        every = [process, *process.children(recursive=True)]
        return [sum(each.memory_info().rss for each in every) / 1e6]
    return []

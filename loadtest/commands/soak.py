"""`exfm-loadtest soak`: one load for a long time, and whether anything drifts."""

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import psutil
from tqdm import tqdm

from loadtest.arrivals.schedule import check_due, some_arrivals
from loadtest.arrivals.shapes import steady
from loadtest.commands import arguments, options
from loadtest.commands.options import Setup
from loadtest.commands.output import deliver, events_since, read_events
from loadtest.commands.run import document_of
from loadtest.driving.calls import target_by
from loadtest.driving.conditions import conditions, machine_cpu_s
from loadtest.driving.measure import Measured, quiet
from loadtest.driving.target import LEAD_S, Result, drive, own_cpu_s
from loadtest.report.document import Event, events_of, merged, slice_of
from loadtest.report.text import summary
from loadtest.verdict.drift import Drift
from loadtest.verdict.judge import faults_of_generator, judge
from loadtest.verdict.objectives import Objective
from loadtest.verdict.stats import Interval
from loadtest.verdict.tally import Tally, tally_of

HELP = "one load for a long time; whether latency or memory drifts"
EXAMPLES = """
examples:
  exfm-loadtest soak --vertical feed_click --rate 100 --seconds 86400 --pid 4711

Windows follow one another without a pause and are counted one by one. p99_drift is the p99 of the last third of them
over that of the first third; rss_mb_per_h is the slope of the resident memory of --pid and its descendants. Without a
file: the usual objectives, and p99_drift at most 1.25. An interrupt (Ctrl-C) ends the soak early: the windows that are
over are judged and written.
"""
DRIFT = 1.25
Window = Callable[[int], Awaitable[Result]]


class WatchedError(ValueError):
    """There is no process of the number that `--pid` names."""


@dataclass
class Windows:
    """What has been counted so far: one entry per window, in order."""

    drift: Drift
    slices: list[dict[str, Any]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    last: Result | None = None

    def enter(self, result: Result, at_s: float, budget_s: float) -> None:
        """Count a window that began at `at_s`."""
        self.drift.enter(tally_of(result, budget_s))
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
    read_events(asked.events)
    check_due(steady(asked.rate, asked.window_s))
    if asked.pid and not psutil.pid_exists(asked.pid):
        raise WatchedError(f"--pid {asked.pid}: no such process")
    setup = options.set_up(asked)
    facts = {**setup.facts, "shape": "steady", "rate_rps": asked.rate, "seed": asked.seed}
    facts |= {"candidates": asked.candidates, "seconds": asked.seconds, "window_s": asked.window_s, **conditions()}
    zero_unix_s, windows = time.time() + LEAD_S, Windows(Drift(Tally(setup.aim.budget_s)))
    before_s = machine_cpu_s() - own_cpu_s()
    with quiet():
        asyncio.run(_soak(asked, setup, windows))
    if windows.last is None:
        raise KeyboardInterrupt
    measured = Measured(windows.last, max(machine_cpu_s() - own_cpu_s() - before_s, 0.0))
    windows.events = merged(events_since(asked.events, zero_unix_s), windows.events)
    return _finish(asked, setup, windows, measured, facts)


def _finish(
    asked: argparse.Namespace, setup: Setup, windows: Windows, measured: Measured, facts: dict[str, Any]
) -> int:
    total, count = windows.drift.total, len(windows.slices)
    drifts = windows.drift.figures(asked.window_s)
    extra = () if asked.objectives else (Objective("p99_drift", DRIFT),)
    verdict = judge(
        {**total.figures(), **drifts}, (*setup.objectives, *extra), faults_of_generator(total, setup.limits)
    )
    document = document_of("soak", setup, measured, tally=total, verdict=verdict, events=windows.events, parts=count)
    document |= {"last_of": "the last window", "whole_timeline": True}
    document |= {"timeline": windows.slices, "rss_mb": windows.drift.rss_mb, "conditions": facts}
    document["figures"] |= {name: figure.plain() for name, figure in drifts.items()}
    return deliver(asked, document, verdict, _text(asked, total, count, drifts))


def _text(asked: argparse.Namespace, total: Tally, count: int, drifts: dict[str, Interval]) -> str:
    lines = [summary(total, asked.window_s * count)]
    lines += [f"{name} {each.value:.4g} [{each.low:.4g}, {each.high:.4g}]" for name, each in drifts.items()]
    return "\n".join(lines + [f"ended early, after {count} of {_count(asked)} windows"] * (count < _count(asked)))


async def _soak(asked: argparse.Namespace, setup: Setup, windows: Windows) -> None:
    profile, aim = steady(asked.rate, asked.window_s), setup.aim
    async with target_by(aim.call, aim.address, aim.workload, aim.connections) as target:

        async def window(index: int) -> Result:
            schedule_s = some_arrivals(profile, asked.seed + index)
            return await drive(target, schedule_s, aim.budget_s, timeout_s=aim.timeout_s, seconds=asked.window_s)

        with _interrupts() as stop:
            await _one_after_the_other(window, asked, aim.budget_s, windows, stop)


async def _one_after_the_other(
    window: Window, asked: argparse.Namespace, budget_s: float, windows: Windows, stop: asyncio.Event
) -> None:
    """Start each window when the one before is over by the clock, though not all of its answers may be in."""
    start_s, before, count = time.monotonic(), None, _count(asked)
    for index in tqdm(range(count + 1), desc="soak", unit="window", file=sys.stderr, leave=False, disable=None):
        running = asyncio.ensure_future(window(index)) if index < count else None
        if before is not None:
            windows.enter(await before, (index - 1) * asked.window_s, budget_s)
            windows.drift.rss_mb += _rss_mb(asked.pid)
        before = running
        with contextlib.suppress(TimeoutError):
            left_s = start_s + (index + 1) * asked.window_s - time.monotonic()
            await asyncio.wait_for(stop.wait(), max(left_s, 0.0) if running else 0.0)
        if stop.is_set() and running:
            running.cancel()
            return


@contextlib.contextmanager
def _interrupts() -> Iterator[asyncio.Event]:
    """An event that an interrupt sets, instead of ending the process with all that it has counted."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    try:
        yield stop
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _count(asked: argparse.Namespace) -> int:
    return max(int(asked.seconds / asked.window_s + 0.5), 1)


def _rss_mb(pid: int | None) -> list[float]:
    if pid is None:
        return []
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        every = [process, *process.children(recursive=True)]
        return [sum(each.memory_info().rss for each in every) / 1e6]
    return []

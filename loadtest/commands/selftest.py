"""`exfm-loadtest selftest`: the generator held against a server whose stalls are known."""

import argparse
import asyncio
import contextlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from loadtest.arrivals.schedule import some_arrivals
from loadtest.arrivals.shapes import steady
from loadtest.commands import arguments
from loadtest.driving.measure import quiet
from loadtest.driving.progress import showing
from loadtest.driving.rank_target import RankTarget
from loadtest.driving.target import LEAD_S, drive
from loadtest.selftest.closed_loop import drive_closed
from loadtest.selftest.server import SCHEMA
from loadtest.selftest.stalls import Stalls, percentile_ms
from loadtest.verdict.judge import FAIL, INVALID, PASS, WORDS
from loadtest.verdict.tally import tally_of
from loadtest.workload.making import from_schema
from loadtest.workload.sizes import fixed

HELP = "hold the generator against a server whose stalls are known"
EXAMPLES = """
examples:
  exfm-loadtest selftest
  exfm-loadtest selftest --json

A server without a model stalls 500 ms every 5 s. The truth is computed from the schedule and the server's stalls: who
was due during a stall waited for its end. The open-loop generator's p99.9, read off the histogram that every result,
page and verdict is read off, must be within 10 % of it. A closed-loop run of the same length beside it shows what the
usual tools would say: it has one slow request per stall, because it doesn't send while it waits. It must say less than
half of the truth; where it sent too few requests for that, the selftest says nothing.
"""
TOLERANCE = 0.1
LIE = 0.5
"""The closed loop's p99.9 must be below this share of the truth, or it wouldn't show what open loops are for."""
PER_STALL = 1000
"""So many requests must hide a slow one from a p99.9."""
TIMEOUT_S = 10.0
UP_S = 20.0
CANDIDATES = 10


class NoServerError(OSError):
    """The stalling server didn't start."""


@dataclass(frozen=True)
class SelfTest:
    """p99.9 in milliseconds: by the schedule, by the open-loop generator, by a closed loop."""

    true_p999_ms: float
    open_p999_ms: float
    closed_p999_ms: float
    open_requests: int
    closed_requests: int
    stalls: int

    @property
    def error(self) -> float:
        """How far the open loop is from the truth, relative to it."""
        return abs(self.open_p999_ms - self.true_p999_ms) / self.true_p999_ms

    @property
    def lies(self) -> bool:
        """Whether the closed loop hides the stalls."""
        return self.closed_p999_ms < LIE * self.true_p999_ms

    @property
    def nothing(self) -> str:
        """Why this says nothing; empty if it says something."""
        if self.true_p999_ms == 0:
            return "no request met a stall; take longer runs"
        # The closed loop may begin within one stall and end within another, hence one more than there are.
        if not self.lies and self.closed_requests < PER_STALL * (self.stalls + 1):
            return f"{self.closed_requests:,} requests of the closed loop are too few to hide {self.stalls} stalls"
        return ""

    @property
    def code(self) -> int:
        """The exit code."""
        if self.nothing:
            return INVALID
        return PASS if self.error <= TOLERANCE and self.lies else FAIL


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add = parser.add_argument
    add("--rate", type=arguments.positive, default=200.0, metavar="RPS", help="of the open loop (200)")
    add("--seconds", type=arguments.positive, default=20.0, metavar="S", help="of each of the two runs (20)")
    add("--stall-ms", type=arguments.positive, default=500.0, metavar="MS", help="length of a stall (500)")
    add("--every-s", type=arguments.positive, default=5.0, metavar="S", help="from one stall to the next (5)")
    add("--seed", type=int, default=0, help="of the arrivals (0)")
    add("--json", action="store_true", help="print the result as JSON on stdout")


def main(asked: argparse.Namespace) -> int:
    """Run it; the exit code."""
    with _stalling(asked.stall_ms / 1e3, asked.every_s) as (address, stalls), quiet():
        made = asyncio.run(_run(asked, address, stalls))
    if made.nothing:
        sys.stderr.write(f"exfm-loadtest selftest: {made.nothing}\n")
        return INVALID
    plain = {**asdict(made), "error": made.error, "closed_loop_lies": made.lies, "verdict": WORDS[made.code]}
    sys.stdout.write(json.dumps(plain) + "\n" if asked.json else _text(made))
    return made.code


async def _run(asked: argparse.Namespace, address: str, stalls: Stalls) -> SelfTest:
    schedule_s = some_arrivals(steady(asked.rate, asked.seconds), asked.seed)
    workload = from_schema(SCHEMA, SCHEMA.verticals[0].name, fixed(CANDIDATES), seed=asked.seed)
    async with RankTarget(address, workload) as target:
        for index in range(8):  # so that connecting isn't part of it
            await target.send(index, TIMEOUT_S)
        async with showing("open loop", len(schedule_s)) as done:
            start_s = time.monotonic() + LEAD_S
            result = await drive(target, schedule_s, stalls.stall_s, timeout_s=TIMEOUT_S, done=done)
        true_s = stalls.wait_s(start_s + schedule_s)
        closed = await drive_closed(target, asked.seconds, TIMEOUT_S)
    return SelfTest(
        true_p999_ms=percentile_ms(true_s, 99.9),
        open_p999_ms=tally_of(result, stalls.stall_s).figures()["p999_ms"].value,
        closed_p999_ms=percentile_ms(closed.latency_s, 99.9),
        open_requests=len(schedule_s),
        closed_requests=len(closed.latency_s),
        stalls=round(asked.seconds / asked.every_s),
    )


@contextlib.contextmanager
def _stalling(stall_s: float, every_s: float) -> Iterator[tuple[str, Stalls]]:
    command = [sys.executable, "-m", "loadtest.selftest.server", str(stall_s), str(every_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline() if select.select([process.stdout], [], [], UP_S)[0] else ""
            if not line:
                raise NoServerError("the stalling server didn't start")
            ready = json.loads(line)
            yield ready["address"], Stalls(stall_s, every_s, float(ready["origin_s"]))
        finally:
            process.kill()


def _text(made: SelfTest) -> str:
    lies = "hides the stalls" if made.lies else "does not hide the stalls, as it should"
    return (
        f"p99.9 by the schedule {made.true_p999_ms:8.1f} ms\n"
        f"      open loop       {made.open_p999_ms:8.1f} ms, {made.error:.1%} off, {made.open_requests:,} requests\n"
        f"      closed loop     {made.closed_p999_ms:8.1f} ms, {lies}, {made.closed_requests:,} requests\n"
        f"verdict: {WORDS[made.code]}\n"
    )

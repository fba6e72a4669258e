"""What the server is put through, one function per scenario; each returns what `overload.json` holds of it."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from bench.overload.capacity import FULL_SHARE, find_capacity
from bench.overload.figures import Figures, back_s, figures, joined
from bench.overload.load import Action, Load, Run
from bench.overload.plant import BenchError, Plant
from bench.overload.schedule import Stream
from serving.catalog import Vertical

MULTIPLES = (1, 2, 5, 10)
FIRST_RPS = 25.0
DISTURBED = 0.2
"""Cores that others may take before a failed probe is held to be their fault and repeated, up to `PATIENCE` in all."""
PATIENCE = 3
LOWER, LOWERINGS = 1.06, 2
"""By how much a capacity is lowered whose own run doesn't bear it out, and how often."""
FAULT_LOAD = 0.5
"""The share of the capacity that is offered while Triton is hurt."""
FAULT_PATIENCE = 4.0
"""Budgets that calls wait for then: the server's own limit must end them, and an answer past it is seen."""
STALL_S = 5.0
BEFORE_S = 3.0
AFTER_S = 4.0
"""For how long the load goes on after Triton is well again, at least."""
SMALL, SMALL_LOAD = 100, 0.5
"""Candidates of the small requests, and their rate over the capacity's at most: they cost what a request costs."""
LARGE_LOAD = 0.25
"""The large ones' candidates per second over the capacity's."""
LARGE = (500, 1000, 2000)
MIXED_ROUNDS = 8
"""A p99 of the few small requests needs more than a thousand of them on either side."""
SETTLE_S = 1.0
"""Between runs, so that one doesn't inherit the other's queues."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """All that a scenario needs.

    Attributes:
        candidates: per request, except in the mixed runs.
        seconds: of each overload run; the others are in proportion where their length is free.
        restart_s: how long after `kill -9` the load goes on.
    """

    load: Load
    plant: Plant
    vertical: Vertical
    candidates: int
    seconds: float
    restart_s: float

    @property
    def budget_s(self) -> float:
        """The vertical's."""
        return self.vertical.budget_s

    def send(self, rate_rps: float, seconds: float, name: str) -> tuple[Run, Figures]:
        """One size at one rate."""
        time.sleep(SETTLE_S)
        run = self.load.run([Stream(self.candidates, rate_rps, seconds)], name)
        return run, figures(run.record, seconds, self.budget_s)


def capacity(bench: Bench, say: Say) -> float:
    """The rated capacity in requests per second; `NoCapacityError` if there is none."""

    def probe(rate_rps: float, seconds: float) -> tuple[bool, bool]:
        run, made = bench.send(rate_rps, seconds, f"{rate_rps:.0f}/s")
        good = _is_rated(bench, made)
        disturbed = run.other_cpu_s > DISTURBED * seconds
        word = "" if good else "disturbed" if disturbed else "no"
        say(f"  {rate_rps:7.1f}/s  p99 {made.p99_ms:6.2f} ms  full {made.tiers['full']:7.2%}  {word}")
        return good, disturbed

    def holds(rate_rps: float, seconds: float) -> bool:
        for _ in range(PATIENCE):
            good, disturbed = probe(rate_rps, seconds)
            if good or not disturbed:
                break
        return good

    return find_capacity(holds, FIRST_RPS, max(bench.seconds / 6, 2.0), max(bench.seconds / 3, 3.0))


def rated(bench: Bench, capacity_rps: float, lowerings: int, say: Say) -> tuple[float, dict[str, Any]]:
    """The run at the capacity, and the capacity: lowered as often as that, if the run doesn't bear it out.

    The search takes the better of two short tries; what all else is measured at multiples of should be no stroke of
    luck. A run that doesn't bear it out at the last stands, to be judged.
    """
    while True:
        run, made = bench.send(capacity_rps, bench.seconds, "1C")
        if lowerings == 0 or _is_rated(bench, made):
            return capacity_rps, _run(1, run, made)
        say(f"  {capacity_rps:7.1f}/s  p99 {made.p99_ms:6.2f} ms  full {made.tiers['full']:7.2%}  after all, no")
        capacity_rps, lowerings = capacity_rps / LOWER, lowerings - 1


def overload(bench: Bench, capacity_rps: float, multiple: int) -> dict[str, Any]:
    """One run at a multiple of the capacity."""
    run, made = bench.send(capacity_rps * multiple, bench.seconds, f"{multiple}C")
    return _run(multiple, run, made)


def step(bench: Bench, capacity_rps: float) -> dict[str, Any]:
    """1C, then 10C, then 1C again: how long until the full tier is back."""
    length_s = max(bench.seconds / 5, 2.0)
    rates = (capacity_rps, capacity_rps * 10, capacity_rps)
    last_s = max(length_s, 4.0)
    lengths = (length_s, length_s, last_s)
    streams = [Stream(bench.candidates, rate, lengths[at], sum(lengths[:at])) for at, rate in enumerate(rates)]
    time.sleep(SETTLE_S)
    run = bench.load.run(streams, "1C 10C 1C")
    down_s = streams[-1].at_s
    after = figures(run.record.between(down_s), last_s, bench.budget_s)
    high = figures(run.record.between(streams[1].at_s, down_s), length_s, bench.budget_s)
    return {
        "full_back_s": back_s(run.record, bench.budget_s, down_s),
        "late_share_high": high.late_share,
        "late_share_after": after.late_share,
        "full_share_after": after.tiers["full"],
        **_cpu(run),
    }


def stall(bench: Bench, capacity_rps: float) -> dict[str, Any]:
    """SIGSTOP of Triton for `STALL_S` under load, then SIGCONT."""
    pid = bench.plant.triton_pid()
    at: dict[str, float] = {}

    def send(name: str, number: int) -> Callable[[], None]:
        def act() -> None:
            os.kill(pid, number)
            at[name] = time.monotonic()

        return act

    actions = [(BEFORE_S, send("stop", signal.SIGSTOP)), (BEFORE_S + STALL_S, send("go", signal.SIGCONT))]
    run, rate_rps = _hurt(bench, capacity_rps, BEFORE_S + STALL_S + AFTER_S, "SIGSTOP", actions)
    return _damage(bench, run, rate_rps, at["stop"], at["go"])


def kill(bench: Bench, capacity_rps: float) -> dict[str, Any]:
    """`kill -9` of Triton under load; recovery counts from when the restarted one was seen to have its model ready.

    It is asked every twentieth of a second, so it may have been ready that much earlier: hence `hurt_to_full_s`, too.
    """
    pid = bench.plant.triton_pid()
    at: dict[str, float] = {}

    def act() -> None:
        os.kill(pid, signal.SIGKILL)
        at["kill"] = time.monotonic()
        ready_s = bench.plant.await_triton(bench.vertical.name, bench.restart_s - AFTER_S)
        if ready_s is None:
            raise BenchError(f"Triton was not ready again within {bench.restart_s - AFTER_S:g} s of its end")
        at["ready"] = ready_s

    run, rate_rps = _hurt(bench, capacity_rps, BEFORE_S + bench.restart_s, "kill -9", [(BEFORE_S, act)])
    return {"restarted_s": at["ready"] - at["kill"], **_damage(bench, run, rate_rps, at["kill"], at["ready"])}


def mixed(bench: Bench, capacity_rps: float) -> dict[str, Any]:
    """Small requests alone and among large ones, in turns.

    The large ones bring `LARGE_LOAD` of the capacity's candidates per second. The small ones would, too, if that didn't
    make more of them than `SMALL_LOAD` of its requests: as a rule theirs are some per cent of its candidates.
    """
    most = bench.vertical.max_candidates
    sizes = sorted({min(size, most) for size in LARGE})
    whole = capacity_rps * bench.candidates
    share, small = LARGE_LOAD * whole, min(SMALL, most)
    length_s = max(bench.seconds / 6, 2.0)
    alone = [Stream(small, min(share / small, SMALL_LOAD * capacity_rps), length_s)]
    among = alone + [Stream(size, share / sum(sizes), length_s) for size in sizes]
    parts: dict[str, list[Any]] = {"without": [], "with": []}
    runs: list[Run] = []
    for _ in range(MIXED_ROUNDS):
        for name, streams in (("without", alone), ("with", among)):
            time.sleep(SETTLE_S)
            run = bench.load.run(streams, f"mixed, {name} large")
            runs.append(run)
            parts[name].append(run.record.only(run.record.stream == 0))
    made = {name: figures(joined(records), length_s * MIXED_ROUNDS, bench.budget_s) for name, records in parts.items()}
    return {
        "p99_ratio": made["with"].p99_ms / made["without"].p99_ms,
        "small": alone[0].candidates,
        "large": sizes,
        "small_rps": alone[0].rate_rps,
        "large_rps": share / sum(sizes) * len(sizes),
        "small_candidates_share": small * alone[0].rate_rps / whole,
        "large_candidates_share": share / whole,
        **{f"p99_{name}_ms": each.p99_ms for name, each in made.items()},
        **{f"late_share_{name}": each.late_share for name, each in made.items()},
        **{f"full_share_{name}": each.tiers["full"] for name, each in made.items()},
        **_cpu(*runs),
    }


def _hurt(bench: Bench, capacity_rps: float, seconds: float, name: str, actions: list[Action]) -> tuple[Run, float]:
    rate_rps = capacity_rps * FAULT_LOAD
    time.sleep(SETTLE_S)
    streams = [Stream(bench.candidates, rate_rps, seconds)]
    return bench.load.run(streams, name, actions, patience=FAULT_PATIENCE), rate_rps


def _damage(bench: Bench, run: Run, rate_rps: float, hurt_s: float, well_s: float) -> dict[str, Any]:
    """From the fault to the end of the run, instants monotonic; budgets run from the sending, see `figures`."""
    # A request that was under way when the fault came has met it, too.
    since_s = hurt_s - run.start_s - bench.budget_s
    record = run.record.since_sent()
    hurt, full = record.between(since_s), partial(back_s, record, bench.budget_s)
    made = figures(hurt, run.seconds - since_s, bench.budget_s)
    before = figures(record.between(0.0, since_s), since_s, bench.budget_s)
    past_s = hurt.latency_s - bench.budget_s
    return {
        "late": made.late,
        "late_share": made.late_share,
        "late_before_share": before.late_share,
        "overshoot_p99_ms": made.overshoot_p99_ms,
        "overshoot_max_ms": max(float(np.max(past_s)), 0.0) * 1e3,
        "late_since_scheduled": int(run.record.between(since_s).late(bench.budget_s).sum()),
        "sent_late_p99_ms": made.sent_late_p99_ms,
        "recovery_s": full(well_s - run.start_s),
        "hurt_to_full_s": full(hurt_s - run.start_s),
        "offered": made.offered,
        "rate_rps": rate_rps,
        "tiers": made.tiers,
        "unanswered_share": made.unanswered_share,
        "failed_share": made.failed_share,
        **_cpu(run),
    }


def _is_rated(bench: Bench, made: Figures) -> bool:
    return made.p99_ms <= bench.budget_s * 1e3 and made.tiers["full"] >= FULL_SHARE


def _run(multiple: int, run: Run, made: Figures) -> dict[str, Any]:
    return {"multiple": multiple, **asdict(made), **_cpu(run)}


def _cpu(*runs: Run) -> dict[str, float]:
    """Whose the CPU time was; of several runs the largest share of the generator's."""
    names = ("generator_cpu_s", "server_cpu_s", "other_cpu_s")
    sums = {name: sum(getattr(run, name) for run in runs) for name in names}
    return {"generator_cpu_share": max(run.generator_cpu_share for run in runs), **sums}

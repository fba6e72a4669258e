"""What the server is put through, one function per scenario; each returns what `overload.json` holds of it."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
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
FAULT_LOAD = 0.5
"""The share of the capacity that is offered while Triton is hurt, and in the mixed runs."""
STALL_S = 5.0
BEFORE_S = 3.0
AFTER_S = 4.0
"""For how long the load goes on after Triton is well again, at least."""
SMALL = 100
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
        good = made.p99_ms <= bench.budget_s * 1e3 and made.tiers["full"] >= FULL_SHARE
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


def overload(bench: Bench, capacity_rps: float, multiple: int) -> dict[str, Any]:
    """One run at a multiple of the capacity."""
    run, made = bench.send(capacity_rps * multiple, bench.seconds, f"{multiple}C")
    return {"multiple": multiple, **asdict(made), "generator_cpu_share": run.generator_cpu_share, **_cpu(run)}


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
    """`kill -9` of Triton under load; recovery counts from when the restarted one says that its model is ready."""
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
    """Small requests alone and among large ones, in turns; each kind takes a quarter of the capacity's candidates."""
    most = bench.vertical.max_candidates
    sizes = sorted({min(size, most) for size in LARGE})
    share = FAULT_LOAD / 2 * capacity_rps * bench.candidates
    length_s = max(bench.seconds / 6, 2.0)
    # Small requests cost what a request costs, whatever its size, so their rate is bound by the capacity's own.
    alone = [Stream(min(SMALL, most), min(share / SMALL, FAULT_LOAD * capacity_rps), length_s)]
    among = alone + [Stream(size, share / sum(sizes), length_s) for size in sizes]
    parts: dict[str, list[Any]] = {"without": [], "with": []}
    for _ in range(MIXED_ROUNDS):
        for name, streams in (("without", alone), ("with", among)):
            time.sleep(SETTLE_S)
            record = bench.load.run(streams, f"mixed, {name} large").record
            parts[name].append(record.only(record.stream == 0))
    made = {name: figures(joined(records), length_s * MIXED_ROUNDS, bench.budget_s) for name, records in parts.items()}
    return {
        "p99_ratio": made["with"].p99_ms / made["without"].p99_ms,
        "small": alone[0].candidates,
        "large": sizes,
        "small_rps": alone[0].rate_rps,
        "large_rps": share / sum(sizes) * len(sizes),
        **{f"p99_{name}_ms": each.p99_ms for name, each in made.items()},
        **{f"late_share_{name}": each.late_share for name, each in made.items()},
        **{f"full_share_{name}": each.tiers["full"] for name, each in made.items()},
    }


def _hurt(bench: Bench, capacity_rps: float, seconds: float, name: str, actions: list[Action]) -> tuple[Run, float]:
    rate_rps = capacity_rps * FAULT_LOAD
    time.sleep(SETTLE_S)
    return bench.load.run([Stream(bench.candidates, rate_rps, seconds)], name, actions), rate_rps


def _damage(bench: Bench, run: Run, rate_rps: float, hurt_s: float, well_s: float) -> dict[str, Any]:
    """From the fault to the end of the run, instants monotonic."""
    # A request that was under way when the fault came has met it, too.
    since_s = hurt_s - run.start_s - bench.budget_s
    hurt = run.record.between(since_s)
    made = figures(hurt, run.seconds - since_s, bench.budget_s)
    before = figures(run.record.between(0.0, since_s), since_s, bench.budget_s)
    past_s = hurt.latency_s - bench.budget_s
    return {
        "late": made.late,
        "late_share": made.late_share,
        "late_before_share": before.late_share,
        "overshoot_p99_ms": made.overshoot_p99_ms,
        "overshoot_max_ms": max(float(np.max(past_s)), 0.0) * 1e3,
        "recovery_s": back_s(run.record, bench.budget_s, well_s - run.start_s),
        "offered": made.offered,
        "rate_rps": rate_rps,
        "tiers": made.tiers,
        "unanswered_share": made.unanswered_share,
        "failed_share": made.failed_share,
    }


def _cpu(run: Run) -> dict[str, float]:
    return {name: getattr(run, name) for name in ("generator_cpu_s", "server_cpu_s", "other_cpu_s")}

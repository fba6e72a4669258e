"""`Rank` while its histories' Valkey is killed and started again: late shares, well and dead in turns."""

import asyncio
import re
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np

from bench.scale.fleet import Event, Eventful, Fleet, triton
from bench.scale.reading import Served, publish
from bench.scale.servers import Server, free_ports, valkey_server
from loadtest.arrivals.schedule import poisson
from loadtest.driving.rank_target import RankTarget
from loadtest.driving.target import Result, drive
from loadtest.verdict.stats import wilson
from serving.processes.settings import REPORT_S

CANDIDATES, STAGE = 200, "history"
WARM_S, PAGE_S = 2.0, 5.0
METRIC = re.compile(r'^exfm_history_lookups_total\{.*result="(\w+)".*\} (\S+)$', re.MULTILINE)


def measure(folder: Path, *, turns: int, seconds: float, per_s: float) -> dict[str, Any]:
    """An open-loop load through a real server with `--histories redis://...`.

    Args:
        folder: for everything.
        turns: with the Valkey well all the time, and as many in which it is killed at the beginning and started again
            at two thirds.
        seconds: of a turn.
        per_s: requests a second, Poisson, each of 200 candidates and of a user with a full history.

    Returns:
        `late_delta`, the late share of the turns with a kill less that of the others, and both with their intervals of
        95 %; `missed`, the histories that the server's own metric counted as not read, by reason; the share of requests
        with a history; p99 of the ledger's stage `history` in microseconds.
    """
    served = publish(folder / "model", CANDIDATES)
    port, ops = free_ports(2)
    with ExitStack() as stack:
        valkey = stack.enter_context(valkey_server(folder / "valkey"))
        url = f"redis://127.0.0.1:{valkey.port}/0"
        served.remember(url)
        address = stack.enter_context(triton(served.repository, folder / "triton.log"))
        arguments = ["--triton", address, "--histories", url, "--ops", f"127.0.0.1:{ops}"]
        fleet = stack.enter_context(Fleet(folder / "frontend", served.repository, arguments, [port]))
        return asyncio.run(_turns(fleet.addresses[0], ops, served, valkey, (turns, seconds, per_s)))


async def _turns(
    address: str, ops: int, served: Served, valkey: Server, plan: tuple[int, float, float]
) -> dict[str, Any]:
    turns, seconds, per_s = plan
    results: dict[bool, list[Result]] = {False: [], True: []}
    found = {False: Counter[str](), True: Counter[str]()}
    async with RankTarget(address, served.workload) as target:
        await drive(target, poisson(per_s, round(WARM_S * per_s), 0), served.vertical.budget_s)
        for turn in range(turns):
            schedule = poisson(per_s, round(seconds * per_s), turn + 1)
            for dies in (bool(turn % 2), not turn % 2):
                before = await asyncio.to_thread(_lookups, ops)
                events = {0: _event(valkey.kill), 2 * len(schedule) // 3: _event(valkey.start)} if dies else {}
                load = Eventful(target, events)
                results[dies].append(await drive(load, schedule, served.vertical.budget_s))
                await load.settled()
                await asyncio.sleep(2 * REPORT_S)  # until the page has heard of the last ones
                found[dies] += await asyncio.to_thread(_lookups, ops) - before
    return {
        "late_delta": _late(results[True])["late_share"] - _late(results[False])["late_share"],
        **{name: _side(results[dies], found[dies]) for name, dies in (("rank_well", False), ("rank_killed", True))},
        "rank": {"turns": turns, "seconds": seconds, "per_s": per_s, "budget_ms": 1e3 * served.vertical.budget_s},
    }


def _event(act: Any) -> Event:
    async def happen(_: Eventful) -> None:
        await asyncio.to_thread(act)

    return happen


def _side(results: list[Result], found: Counter[str]) -> dict[str, Any]:
    spent_ms = np.concatenate([result.record.stages_ms[STAGE] for result in results])
    return {
        **_late(results),
        "requests": sum(result.offered for result in results),
        "hit_share": found["hit"] / max(found.total(), 1),
        "missed": {name: count for name, count in found.items() if name != "hit"},
        "history_p99_us": float(np.nanquantile(spent_ms, 0.99)) * 1e3,
        "p99_ms": float(np.quantile(np.concatenate([result.record.latency_s for result in results]), 0.99)) * 1e3,
    }


def _late(results: list[Result]) -> dict[str, Any]:
    interval = wilson(sum(result.late for result in results), sum(result.offered for result in results))
    return {"late_share": interval.value, "late_share_interval": [interval.low, interval.high]}


def _lookups(ops: int) -> Counter[str]:
    with urlopen(f"http://127.0.0.1:{ops}/metrics", timeout=PAGE_S) as answer:
        return lookups_in(answer.read().decode())


def lookups_in(page: str) -> Counter[str]:
    """What the server's metric says on that page, by result, over all workers."""
    counted = Counter[str]()
    for result, count in METRIC.findall(page):
        counted[result] += round(float(count))
    return counted

"""Three frontends that share nothing but Triton, log and store, one of them killed under load: whom it costs what."""

import asyncio
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.scale import namespaces
from bench.scale.fleet import Eventful
from bench.scale.plant import COUNT, VIAS, Plant, driven, planted, schedule_with_burst
from loadtest.checking.outcomes import SAID, Outcome
from loadtest.driving.target import Result

SOON_S = 0.002
"""A kill comes so much after the burst."""


def measure(folder: Path, *, turns: int, kills: int, seconds: float, per_s: float) -> dict[str, Any]:
    """What lies between client and frontend costs, and what a frontend's death costs.

    Args:
        folder: for everything.
        turns: undisturbed drives of each way, in turns with those of a channel to each frontend.
        kills: of a frontend for each way, with the client's retries and as many without.
        seconds: of a drive.
        per_s: requests a second, Poisson, each of 200 candidates.

    Returns:
        Under `via`, for each way: `killed_in_flight`, what the killed frontends had not answered; `failed`, the calls
        that ended with an error; `failed_later` of them sent after a kill, into connections that the kernel had not yet
        closed; all three also `without_retries`; `late_share` of the drives with a kill and `late_share_well` of those
        without; `added_p50_ms` over `direct`; `gone`, see `namespaces.measure`.
    """
    with planted(folder / "plant") as plant:
        report = asyncio.run(_measure(plant, turns, kills, seconds, per_s))
    gone = namespaces.measure(folder / "gone", plant.served.repository, seconds=seconds, per_s=per_s)
    for via in VIAS:
        report["via"][via]["gone"] = gone and gone[via]
    return report


async def _measure(plant: Plant, turns: int, kills: int, seconds: float, per_s: float) -> dict[str, Any]:
    well: dict[str, list[Result]] = {via: [] for via in ("direct", *VIAS)}
    for turn in range(turns):
        for via in well if turn % 2 else reversed(well):
            well[via].append(await driven(plant, via, schedule_with_burst(per_s, seconds, turn)[0]))
    report = {}
    for via in VIAS:
        with_, without = Counter[str](), Counter[str]()
        for kill in range(kills):
            with_ += await killed(plant, via, kill % COUNT, per_s=per_s, seconds=seconds, seed=kill)
            without += await killed(plant, via, kill % COUNT, per_s=per_s, seconds=seconds, seed=kill, retries=False)
        added_ms = [ours.p50_ms - direct.p50_ms for ours, direct in zip(well[via], well["direct"], strict=True)]
        counts = ("killed_in_flight", "failed", "failed_later")
        report[via] = {
            **{name: with_[name] for name in counts},
            "late_share": with_["late"] / with_["offered"],
            "late_share_well": sum(each.late for each in well[via]) / sum(each.offered for each in well[via]),
            "added_p50_ms": median(added_ms),
            "without_retries": {name: without[name] for name in counts},
        }
    direct_ms = median(each.p50_ms for each in well["direct"])
    named = {"frontends": COUNT, "kills": kills, "per_s": per_s, "seconds": seconds, "direct_p50_ms": direct_ms}
    return {"via": report, **named}


async def killed(
    plant: Plant,
    via: str,
    number: int,
    *,
    per_s: float,
    seconds: float,
    seed: int,
    retries: bool = True,
    timeout_s: float | None = None,
) -> Counter[str]:
    """Drive the load, `kill -9` one frontend in its midst, start it again afterwards; counts as in `measure`.

    The client waits for `timeout_s`, by default the budget. `unanswered` counts those who waited in vain, not whom a
    frontend told itself that the budget was over; `answered` has a ranking or a refusal.
    """
    schedule, last = schedule_with_burst(per_s, seconds, seed)
    wait_s = plant.served.vertical.budget_s if timeout_s is None else timeout_s
    seen = Counter[str]()

    async def kill(load: Eventful) -> None:
        await asyncio.sleep(SOON_S)
        sent = load.sent
        before = await asyncio.to_thread(plant.in_flight, via, number)
        plant.fleet.kill(number)
        # What was sent while the books were read may have gone there, too.
        seen["killed_in_flight"], seen["sent"] = before + load.sent - sent, load.sent

    result = await driven(plant, via, schedule, {last: kill}, retries=retries, timeout_s=wait_s)
    await asyncio.to_thread(plant.fleet.start, number)
    record = result.record
    failed = record.tier == Outcome.FAILED
    seen["failed"], seen["failed_later"] = int(failed.sum()), int(failed[seen.pop("sent") :].sum())
    seen["unanswered"] = int(((record.tier == Outcome.UNANSWERED) & (record.latency_s >= wait_s)).sum())
    seen["answered"] = int(np.isin(record.tier, SAID).sum())
    seen["late"], seen["offered"] = result.late, result.offered
    return seen

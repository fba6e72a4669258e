"""A Valkey that is killed and started again under look-ups: what a request waits for, and what it goes without."""

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.scale import rank_outage
from bench.scale.servers import Server, valkey_server
from bench.scale.stores import USERS, fill
from exfm.augment.store.backends import open_store
from serving.features.lookup import HistoryLookup, LookupOptions
from serving.features.store import opener

BUDGET_S = 0.025
LATE_S = 0.001
"""A look-up is late if it takes so much more than its share."""
RECOVERED_S = 30.0


def measure(
    folder: Path, *, looks: int, per_s: float, turns: int, seconds: float, ranks_per_s: float
) -> dict[str, Any]:
    """Look-ups at a pace while the server is well, dead, and back; then whole requests, see `rank_outage.measure`.

    Args:
        folder: for the servers.
        looks: per phase.
        per_s: look-ups a second.
        turns: of requests.
        seconds: of a turn.
        ranks_per_s: requests a second.

    Returns:
        Per phase p50 and p99 in microseconds, the share of look-ups that took longer than their share of a budget of
        25 ms by more than 1 ms, and how they ended; `recovered_s` from the restart to the first history.
    """
    looked = _looked(folder / "looks", looks, per_s)
    return looked | rank_outage.measure(folder / "ranks", turns=turns, seconds=seconds, per_s=ranks_per_s)


def _looked(folder: Path, looks: int, per_s: float) -> dict[str, Any]:
    with valkey_server(folder) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        store = open_store(url)
        fill(store)
        store.close()
        return asyncio.run(_phases(server, url, looks, per_s))


async def _phases(server: Server, url: str, looks: int, per_s: float) -> dict[str, Any]:
    lookup = HistoryLookup(opener(url), LookupOptions())
    lookup.start()
    await _until_found(lookup)
    well = await _phase(lookup, looks, per_s)
    server.kill()
    dead = await _phase(lookup, looks, per_s)
    began_s = time.monotonic()
    await asyncio.get_running_loop().run_in_executor(None, server.start)
    await _until_found(lookup)
    recovered_s = time.monotonic() - began_s
    back = await _phase(lookup, looks, per_s)
    lookup.close()
    return {
        "p99_us": well["p99_us"],
        "lookup_late_delta": dead["late_share"] - well["late_share"],
        "recovered_s": recovered_s,
        "well": well,
        "dead": dead,
        "back": back,
    }


async def _phase(lookup: HistoryLookup, looks: int, per_s: float) -> dict[str, Any]:
    before, spent_s = lookup.found.copy(), []
    options = LookupOptions()
    share_s = min(options.most_s, options.share * BUDGET_S)
    due_s = time.perf_counter()
    for user in np.random.default_rng(2).integers(0, USERS, looks).tolist():
        due_s += 1 / per_s
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        began_s = time.perf_counter()
        await lookup.packed(user, BUDGET_S)
        spent_s.append(time.perf_counter() - began_s)
    p50, p99 = np.quantile(spent_s, [0.5, 0.99]) * 1e6
    return {
        "p50_us": float(p50),
        "p99_us": float(p99),
        "late_share": float(np.mean(np.array(spent_s) > share_s + LATE_S)),
        "ended": dict(lookup.found - before),
    }


async def _until_found(lookup: HistoryLookup) -> None:
    async with asyncio.timeout(RECOVERED_S):
        while not await lookup.packed(1, 10.0):  # noqa: ASYNC110  # there is no event for it
            await asyncio.sleep(0.01)

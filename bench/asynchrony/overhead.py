"""What the impression log costs a ranking: the median of a server that logs over that of one that doesn't, in turns."""

from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from bench.asynchrony.setting import WARM_S, Setting, answered, paired, quantile_ms, shares
from bench.overload.load import Run, loading
from bench.overload.plant import BenchError, running
from exfm.events import impression
from exfm.events.log import BEGIN
from exfm.events.sqlite import SqliteLog

SECONDS, TURNS = 2.0, 16
ROUNDS = 2
"""Both servers are started anew that often, in another order: no two processes are quite equally fast."""


def measure(folder: Path, asked: Namespace) -> dict[str, Any]:
    """`log_overhead_ratio`, the median of the turns' ratios, and what it is made of.

    Two frontends share one Triton. `BenchError` if the log has not exactly what was answered.
    """
    setting = Setting.of(asked, SECONDS, TURNS)
    runs: dict[bool, list[Run]] = {False: [], True: []}
    logged = 0
    with running(setting.repository, folder, "") as host:
        for number in range(ROUNDS):
            made, kept = _round(folder / f"round{number}", setting, host.triton, first=bool(number % 2))
            logged += kept
            for keeps, each in made.items():
                runs[keeps] += each
    budget_s = setting.vertical.budget_s
    ratios = paired(runs[True], runs[False], 0.5, budget_s)
    return {
        "log_overhead_ratio": median(ratios),
        "log_overhead": {
            **setting.plain(),
            "without": shares(runs[False], budget_s),
            "with": shares(runs[True], budget_s),
            "p50_ratios": ratios,
            "p50_ratio_of_all": quantile_ms(runs[True], 0.5, budget_s) / quantile_ms(runs[False], 0.5, budget_s),
            "logged": logged,
        },
    }


def _round(folder: Path, setting: Setting, triton: str, *, first: bool) -> tuple[dict[bool, list[Run]], int]:
    """Turns of two fresh servers, and how many impressions were logged; `first`: which one is started first."""
    log = folder / "log.sqlite"
    arguments = {False: f"--triton {triton}", True: f"--triton {triton} --log sqlite:{log}"}
    runs: dict[bool, list[Run]] = {False: [], True: []}
    with ExitStack() as stack:
        loads = {}
        for keeps in (first, not first):
            place = folder / ("with" if keeps else "without")
            place.mkdir(parents=True)
            plant = stack.enter_context(running(setting.repository, place, arguments[keeps]))
            budget_s = setting.vertical.budget_s
            loads[keeps] = stack.enter_context(
                loading(plant, setting.pools, place, budget_s, connections=8, seed=setting.seed)
            )
        warm = {keeps: load.run(setting.stream(WARM_S), "warm-up") for keeps, load in loads.items()}
        for turn in range(setting.turns // ROUNDS):
            for keeps in (bool(turn % 2), not turn % 2):
                name = f"{'with' if keeps else 'without'} the log {turn + 1}"
                runs[keeps].append(loads[keeps].run(setting.stream(), name))
    asked = sum(answered(run.record) for run in (warm[True], *runs[True]))
    return runs, _logged(log, at_least=asked, at_most=sum(len(run.record) for run in (warm[True], *runs[True])))


def _logged(path: Path, *, at_least: int, at_most: int) -> int:
    """Impressions in the log: one per answer that was handed over, be it too late, and none of anything else."""
    log = SqliteLog(path)
    count = sum(record.count for record in log.read(impression.TOPIC, BEGIN, 1 << 30))
    log.close()
    if not at_least <= count <= at_most:
        raise BenchError(f"{count} impressions were logged of {at_least} to {at_most} answers")
    return count

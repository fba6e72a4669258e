"""What serving feels of an annotator flat out on the same machine: its p99 with over its p99 without, in turns.

Twice: of workers that give way, as they are meant to on a machine that serves, and of workers that are merely the last
whom the kernel gives a processor.
"""

from argparse import Namespace
from pathlib import Path
from statistics import median
from typing import Any

from bench.asynchrony.crowd import Crowd
from bench.asynchrony.setting import WARM_S, Setting, paired, quantile_ms, shares
from bench.overload.load import Load, Run, loading
from bench.overload.plant import BenchError, running

SECONDS, TURNS = 5.0, 10
EXAMPLES_PER_S = 12_000
"""More than an annotator with one core to itself does, so that it never runs out of work."""
LEAST_SHARE = 0.03
"""Of the speed without giving way; a twentieth of the time is theirs in any case."""
ARMS = {"isolation": "local:1?give_way_ms=10", "isolation_idle_class": "local:1"}


def measure(folder: Path, asked: Namespace) -> dict[str, Any]:
    """`isolation_p99_ratio` over all turns, of workers that give way, and what it is made of; likewise of the others.

    `BenchError` if the annotator ran out of work or did none: then nothing was measured.
    """
    made = {}
    for name, workers in ARMS.items():
        (folder / name).mkdir(parents=True)
        made[name] = _isolation(folder / name, Setting.of(asked, SECONDS, TURNS), workers)
    polite, usual = (made[name]["annotated_per_s"] for name in ARMS)
    if polite < LEAST_SHARE * usual:
        raise BenchError(f"workers that give way annotated {polite:.0f}/s, the others {usual:.0f}/s: they hardly ran")
    return {"isolation_p99_ratio": made["isolation"]["p99_ratio"], "annotated_share": polite / usual, **made}


def _isolation(folder: Path, setting: Setting, workers: str) -> dict[str, Any]:
    crowd = Crowd(folder, round(EXAMPLES_PER_S * setting.seconds * setting.turns), ("--workers", workers))
    keeping = f"--log sqlite:{folder / 'log.sqlite'} --histories lmdb:{folder / 'store'}"
    budget_s = setting.vertical.budget_s
    try:
        crowd.start()
        crowd.halt()
        with (
            running(setting.repository, folder, keeping) as plant,
            loading(plant, setting.pools, folder, budget_s, connections=8, seed=setting.seed) as load,
        ):
            load.run(setting.stream(WARM_S), "warm-up")
            made, cpu_s = crowd.annotated(), crowd.cpu_s()
            alone, beside = _turns(load, crowd, setting)
            made, cpu_s, left = crowd.annotated() - made, crowd.cpu_s() - cpu_s, crowd.waiting()
    finally:
        crowd.kill()
    if not (made and left):
        raise BenchError(f"{workers}: {made} examples were annotated and {left} left: it did not work all the time")
    ratios = paired(beside, alone, 0.99, budget_s)
    return {
        "workers": workers,
        **setting.plain(),
        "without": shares(alone, budget_s),
        "with": shares(beside, budget_s),
        "p50_ratio": quantile_ms(beside, 0.5, budget_s) / quantile_ms(alone, 0.5, budget_s),
        "p99_ratio": quantile_ms(beside, 0.99, budget_s) / quantile_ms(alone, 0.99, budget_s),
        "p99_ratios": ratios,
        "p99_ratio_of_turns": median(ratios),
        "annotated_per_s": made / (setting.seconds * setting.turns),
        "annotator_cpu_share": cpu_s / (setting.seconds * setting.turns),
    }


def _turns(load: Load, crowd: Crowd, setting: Setting) -> tuple[list[Run], list[Run]]:
    """Turns without and with, the order changing from pair to pair."""
    runs: dict[bool, list[Run]] = {False: [], True: []}
    for turn in range(setting.turns):
        for works in (bool(turn % 2), not turn % 2):
            (crowd.go if works else crowd.halt)()
            runs[works].append(load.run(setting.stream(), f"{'with' if works else 'without'} {turn + 1}"))
            crowd.halt()
    return runs[False], runs[True]

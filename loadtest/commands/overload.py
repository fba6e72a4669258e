"""`exfm-loadtest overload`: multiples of the capacity, and what is left of the goodput."""

import argparse
from typing import Any

from loadtest.arrivals.schedule import some_arrivals
from loadtest.arrivals.shapes import steady
from loadtest.commands import arguments, capacity, options
from loadtest.commands.capacity import Prober
from loadtest.commands.options import Setup
from loadtest.commands.output import deliver, laid_over, read_events, seen_of
from loadtest.commands.run import document_of
from loadtest.driving.conditions import conditions
from loadtest.driving.measure import Measured, measure
from loadtest.driving.search import NoCapacityError
from loadtest.report.sweep import knee_of, swept
from loadtest.verdict.judge import Verdict, faults_of_generator, judge
from loadtest.verdict.objectives import Objective
from loadtest.verdict.stats import Interval
from loadtest.verdict.tally import Tally, tally_of

HELP = "offer multiples of the capacity and see what is left of the goodput"
EXAMPLES = """
examples:
  exfm-loadtest overload --vertical feed_click
  exfm-loadtest overload --vertical feed_click --capacity 180 --multiples 1 2 4 10

late_share, error_share and the times are held at the worst multiple, full_tier_share at 1x, and goodput_kept is the
least goodput beyond 1x over that at 1x. Without a file: the usual ones, and goodput_kept at least 0.9.
"""
KEPT = 0.9


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    options.add_target(parser)
    options.add_workload(parser)
    add = parser.add_argument
    add("--capacity", type=arguments.positive, metavar="RPS", help="take this as 1x instead of searching for it")
    add("--multiples", type=arguments.positive, nargs="+", default=[0.5, 1.0, 2.0, 5.0, 10.0], metavar="X")
    add("--seconds", type=arguments.positive, default=15.0, metavar="S", help="of each run (15)")
    add("--first", type=arguments.positive, default=25.0, metavar="RPS", help="where the search starts (25)")
    add("--probe-s", type=arguments.positive, default=5.0, metavar="S", help="of a probe of the search (5)")
    add("--confirm-s", type=arguments.positive, default=10.0, metavar="S", help="of its confirming runs (10)")
    add("--precision", type=arguments.positive, default=0.06, metavar="SHARE", help="of its bracket (0.06)")
    options.add_verdict(parser)
    options.add_output(parser, "overload")


def main(asked: argparse.Namespace) -> int:
    """Run it; the exit code."""
    read_events(asked.events)
    setup = options.set_up(asked)
    facts = {**setup.facts, "seed": asked.seed, "candidates": asked.candidates, "seconds": asked.seconds}
    facts |= conditions()
    prober = Prober(setup, asked.seed, any_tier=False)
    try:
        capacity_rps = asked.capacity or capacity.search(prober, asked)
    except NoCapacityError as error:
        return capacity.none_found(asked, prober, error)
    runs = _runs(setup, asked, capacity_rps)
    document, verdict = judged(setup, asked, runs)
    text = f"capacity {capacity_rps:.1f} requests/s of {asked.candidates} candidates\n{table(document['sweep'])}"
    return deliver(asked, {**document, "capacity_rps": capacity_rps, "conditions": facts}, verdict, text)


def judged(
    setup: Setup, asked: argparse.Namespace, runs: dict[float, tuple[Measured, Tally]]
) -> tuple[dict[str, Any], Verdict]:
    """The document of all runs, whose plots are of the largest load, and the verdict."""
    objectives = setup.objectives if asked.objectives else (*setup.objectives, Objective("goodput_kept", KEPT))
    tallies = {multiple: tally for multiple, (_, tally) in runs.items()}
    invalid = [f"{x:g}x: {why}" for x, tally in tallies.items() for why in faults_of_generator(tally, setup.limits)]
    verdict = judge(worst(tallies), objectives, invalid)
    measured, tally = runs[max(runs)]
    sweep = [_swept(multiple, *run) for multiple, run in runs.items()]
    events = laid_over(asked.events, [seen_of(each) for each, _ in runs.values()], measured.zero_unix_s)
    document = document_of("overload", setup, measured, tally=tally, verdict=verdict, events=events)
    # The objectives are held at the worst multiple, which need not be the one whose figures stand here.
    cut = {"cut": sorted({name for tally in tallies.values() for name in tally.cut()})}
    of = f"the largest load, {max(runs):g}x"
    return {**document, "of": of, "sweep": sweep, "knee_rps": knee_of(sweep), "cut": cut}, verdict


def worst(tallies: dict[float, Tally]) -> dict[str, Interval]:
    """What the objectives are held against; see EXAMPLES."""
    figures = {multiple: tally.figures() for multiple, tally in tallies.items()}
    made = {
        name: max((each[name] for each in figures.values()), key=lambda interval: interval.value)
        for name in ("late_share", "error_share", "wrong_share", "p50_ms", "p90_ms", "p99_ms", "p999_ms")
    }
    made["full_tier_share"] = figures[1.0]["full_tier_share"]
    made["goodput_share"] = figures[1.0]["goodput_share"]
    if beyond := [multiple for multiple in tallies if multiple > 1]:
        made["goodput_kept"] = min((_kept(tallies, x) for x in beyond), key=lambda interval: interval.value)
    return made


def _kept(tallies: dict[float, Tally], multiple: float) -> Interval:
    """Goodput at a multiple over that at 1x, as rates: the share in time times how much more was offered."""
    here, there = tallies[multiple].figures()["goodput_share"], tallies[1.0].figures()["goodput_share"]
    return Interval(
        multiple * here.value / max(there.value, 1e-9),
        multiple * here.low / max(there.high, 1e-9),
        multiple * here.high / max(there.low, 1e-9),
    )


def table(sweep: list[dict[str, Any]]) -> str:
    """One line per load."""
    lines = [f"{'load':>7}{'offered/s':>11}{'goodput/s':>11}{'full/s':>9}{'late':>9}{'p99 ms':>9}"]
    lines += [
        f"{each['said']:>7}{each['offered_rps']:>11.1f}{each['goodput_rps']:>11.1f}{each['full_goodput_rps']:>9.1f}"
        f"{each['late_share']:>9.3%}{each['p99_ms']:>9.2f}{', cut at the deadline' if each['p99_cut'] else ''}"
        for each in sweep
    ]
    return "\n".join(lines)


def _runs(setup: Setup, asked: argparse.Namespace, capacity_rps: float) -> dict[float, tuple[Measured, Tally]]:
    """By multiple; all schedules are made first, so that one that can't be made ends nothing that runs."""
    schedules = {
        multiple: some_arrivals(steady(capacity_rps * multiple, asked.seconds), asked.seed + round(multiple * 1000))
        for multiple in sorted({1.0, *asked.multiples})
    }
    made = {}
    for multiple, schedule_s in schedules.items():
        measured = measure(setup.aim, schedule_s, asked.seconds, f"{multiple:g}x")
        made[multiple] = measured, tally_of(measured.result, setup.aim.budget_s)
    return made


def _swept(multiple: float, measured: Measured, tally: Tally) -> dict[str, Any]:
    seconds = measured.result.seconds
    return {
        "multiple": multiple,
        **swept(tally, seconds),
        "tiers": {name: count / tally.offered for name, count in tally.tiers.items()},
        "generator_cpu_share": tally.cpu_share,
        "said": f"{multiple:g}x",
    }

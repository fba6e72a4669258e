"""`exfm-loadtest run`: one load, one verdict; and what `replay` shares with it."""

import argparse
from pathlib import Path
from typing import Any

from loadtest.arrivals import arrivals
from loadtest.commands import options
from loadtest.commands.options import Setup
from loadtest.commands.output import deliver, read_events
from loadtest.conditions import conditions
from loadtest.document import (
    FORMAT_VERSION,
    Event,
    curve,
    events_of,
    figures_plain,
    generator_plain,
    ledger,
    merged,
    timeline,
)
from loadtest.measure import Measured, measure
from loadtest.recording import write_recording
from loadtest.shapes import SHAPES
from loadtest.tally import Tally, tally_of
from loadtest.verdict import Verdict, faults_of_generator, judge

HELP = "drive a server with one load and hold it against objectives"
EXAMPLES = """
examples:
  exfm-loadtest run --vertical feed_click --rate 100
  exfm-loadtest run --vertical feed_click --rate 100 --shape spike --seconds 60 --objectives objectives.toml
  exfm-loadtest run --vertical feed_click --rate 100 --candidates dlrm-v2 --record sent.jsonl
  exfm-loadtest run --vertical feed_click --rate 100 --data /data/log --json
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    options.add_target(parser)
    options.add_workload(parser)
    options.add_rate(parser, seconds=30.0)
    options.add_verdict(parser)
    options.add_output(parser, "run")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write what is sent when, for `replay`")


def main(asked: argparse.Namespace) -> int:
    """Run it; the exit code."""
    events = read_events(asked.events)
    setup = options.set_up(asked)
    profile = SHAPES[asked.shape](asked.rate, asked.seconds, asked.seed)
    schedule_s = arrivals(profile, asked.seed)
    if asked.record:
        write_recording(asked.record, schedule_s, setup.aim.workload)
    offered = {"shape": asked.shape, "rate_rps": asked.rate, "seed": asked.seed, "candidates": asked.candidates}
    made = conditions()
    measured = measure(setup.aim, schedule_s, profile.seconds, asked.shape)
    events = merged(events, events_of(measured.result.record, profile))
    return finish(asked, setup, measured, events, {**setup.facts, **offered, **made})


def finish(
    asked: argparse.Namespace, setup: Setup, measured: Measured, events: list[Event], facts: dict[str, Any]
) -> int:
    """Judge a drive and deliver its document; the exit code."""
    tally = tally_of(measured.result, setup.aim.budget_s)
    verdict = judge(tally.figures(), setup.objectives, faults_of_generator(tally, setup.limits))
    document = document_of(asked.name, setup, measured, tally=tally, verdict=verdict, events=events)
    return deliver(asked, {**document, "conditions": facts}, verdict, summary(tally, measured.result.seconds))


def document_of(
    kind: str, setup: Setup, measured: Measured, *, tally: Tally, verdict: Verdict, events: list[Event], parts: int = 1
) -> dict[str, Any]:
    """All that a result file holds, but its conditions: figures of `parts` equal drives, plots of the last one."""
    record, budget_s, seconds = measured.result.record, setup.aim.budget_s, measured.result.seconds
    return {
        "kind": kind,
        "format_version": FORMAT_VERSION,
        **verdict.plain(),
        "seconds": seconds * parts,
        "figures": figures_plain(tally, seconds * parts),
        "generator": generator_plain(tally, measured.others_cpu_s),
        "curve": curve(tally.latencies),
        "ledger": ledger(record, budget_s),
        "timeline": timeline(record, seconds, budget_s),
        "events": [event.plain() for event in events],
        "tally": tally.plain(),
    }


def summary(tally: Tally, seconds: float) -> str:
    """One drive in two lines."""
    shares = ", ".join(f"{name} {count / tally.offered:.2%}" for name, count in tally.tiers.most_common())
    figures = tally.figures()
    return (
        f"{tally.offered:,} requests in {seconds:g} s, {tally.in_time / seconds:.1f}/s answered in time; {shares}\n"
        f"p50 {figures['p50_ms'].value:.2f} ms, p99 {figures['p99_ms'].value:.2f} ms, "
        f"p99.9 {figures['p999_ms'].value:.2f} ms, from the scheduled instant"
    )

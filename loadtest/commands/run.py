"""`exfm-loadtest run`: one load, one verdict; and what `replay` shares with it."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtest.arrivals.schedule import digest_of, some_arrivals
from loadtest.arrivals.shapes import SHAPES
from loadtest.commands import options
from loadtest.commands.options import Setup
from loadtest.commands.output import deliver, events_since, read_events
from loadtest.driving.conditions import conditions
from loadtest.driving.measure import Measured, measure
from loadtest.report.document import (
    FORMAT_VERSION,
    Event,
    by_tier,
    curve,
    events_of,
    figures_plain,
    generator_plain,
    ledger,
    merged,
    timeline,
)
from loadtest.report.sweep import sweep_of
from loadtest.report.text import summary
from loadtest.verdict.judge import Verdict, faults_of_generator, judge
from loadtest.verdict.tally import Tally, tally_of
from loadtest.workload.recording import write_recording

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
    read_events(asked.events)
    setup = options.set_up(asked)
    profile = SHAPES[asked.shape](asked.rate, asked.seconds, asked.seed)
    schedule_s = some_arrivals(profile, asked.seed)
    if asked.record:
        write_recording(asked.record, schedule_s, setup.aim.workload)
    offered = {"shape": asked.shape, "rate_rps": asked.rate, "seed": asked.seed, "candidates": asked.candidates}
    offered |= {"seconds": asked.seconds, "schedule_sha256": digest_of(schedule_s)}
    made = conditions()
    measured = measure(setup.aim, schedule_s, profile.seconds, asked.shape)
    record = measured.result.record
    events = merged(events_since(asked.events, measured.zero_unix_s), events_of(record, profile))
    swept = sweep_of(record, profile, setup.aim.budget_s)
    return finish(asked, setup, measured, events, {"conditions": {**setup.facts, **offered, **made}, **swept})


def finish(
    asked: argparse.Namespace, setup: Setup, measured: Measured, events: list[Event], more: Mapping[str, Any]
) -> int:
    """Judge a drive and deliver its document, of which `more`, the conditions at least, is a part; the exit code."""
    tally = tally_of(measured.result, setup.aim.budget_s)
    verdict = judge(tally.figures(), setup.objectives, faults_of_generator(tally, setup.limits))
    document = document_of(asked.name, setup, measured, tally=tally, verdict=verdict, events=events)
    return deliver(asked, {**document, **more}, verdict, summary(tally, measured.result.seconds))


def document_of(
    kind: str, setup: Setup, measured: Measured, *, tally: Tally, verdict: Verdict, events: list[Event], parts: int = 1
) -> dict[str, Any]:
    """All that a result file holds, but its conditions: figures of `parts` equal drives, plots of the last one."""
    record, budget_s, seconds = measured.result.record, setup.aim.budget_s, measured.result.seconds
    # Whose figures are of several drives has no percentiles by tier; its plots say that they are of the last one.
    parted = {"last_of": "the last part"} if parts > 1 else {"by_tier": by_tier(record)}
    return {
        **parted,
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

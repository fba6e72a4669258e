"""`exfm-loadtest replay`: the same requests at the same instants as in a recording."""

import argparse
from pathlib import Path

from loadtest import arguments
from loadtest.commands import options
from loadtest.commands.output import read_events
from loadtest.commands.run import finish
from loadtest.conditions import conditions
from loadtest.document import events_of, merged
from loadtest.measure import measure
from loadtest.rank_target import describe
from loadtest.recording import read_recording

HELP = "send a recording again, at its own pace or another"
EXAMPLES = """
examples:
  exfm-loadtest replay sent.jsonl
  exfm-loadtest replay sent.jsonl --speed 2 --objectives objectives.toml

A recording is JSON Lines: {"format": "exfm-requests", "version": 1}, then one
{"offset_s": 0.0132, "request": "<base64 of a RankRequest>"} per request, in the order of time. `run --record` writes
one; so can anything that sees the traffic.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("recording", type=Path, metavar="FILE", help="what `run --record` wrote")
    parser.add_argument("--speed", type=arguments.positive, default=1.0, metavar="X", help="2: in half the time (1)")
    options.add_target(parser, vertical=False)
    options.add_verdict(parser)
    options.add_output(parser, "replay")


def main(asked: argparse.Namespace) -> int:
    """Run it; the exit code."""
    events = read_events(asked.events)
    _, first = read_recording(asked.recording)
    described = describe(asked.target, first.vertical)
    offsets_s, workload = read_recording(asked.recording, described.tasks)
    setup = options.setup_of(asked, described, workload)
    schedule_s = offsets_s / asked.speed
    seconds = max(float(schedule_s[-1]), 1e-3)
    facts = {**setup.facts, "shape": "replay", "recording": asked.recording.name, "speed": asked.speed, **conditions()}
    measured = measure(setup.aim, schedule_s, seconds, "replay")
    return finish(asked, setup, measured, merged(events, events_of(measured.result.record)), facts)

"""`exfm-loadtest replay`: the same requests at the same instants as in a recording, or as a log has them."""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exfm.data.source import open_source
from loadtest.arrivals.schedule import digest_of
from loadtest.commands import arguments, options
from loadtest.commands.output import events_since, read_events
from loadtest.commands.run import finish
from loadtest.driving.conditions import conditions
from loadtest.driving.measure import measure
from loadtest.driving.rank_target import describe
from loadtest.report.document import events_of, merged
from loadtest.workload.asked import Workload
from loadtest.workload.logged import Part, from_log
from loadtest.workload.making import schema_of
from loadtest.workload.recording import RecordingError, read_recording
from loadtest.workload.sizes import sizes_of
from serving.rpc.pb import ranking_pb2 as pb

HELP = "send a recording again, at its own pace or another"
EXAMPLES = """
examples:
  exfm-loadtest replay sent.jsonl
  exfm-loadtest replay sent.jsonl --speed 2 --objectives objectives.toml
  exfm-loadtest replay /data/stream --vertical feed_click --from-s 3600 --for-s 600 --speed 10

A recording is JSON Lines: {"format": "exfm-requests", "version": 1}, then one
{"offset_s": 0.0132, "request": "<base64 of a RankRequest>"} per request, in the order of time. `run --record` writes
one; so can anything that sees the traffic.

A folder is a log: an example stream (Parquet), a schema file with logs, or KuaiRand. Each of its impressions is asked
for again at its own instant, for its own user and context; the ad that was shown is one of the candidates, the others,
which no log names, are drawn from the log's ads.
"""

Given = tuple[pb.DescribeVerticalResponse, NDArray[np.float64], Workload]


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add = parser.add_argument
    add("recording", type=Path, metavar="PATH", help="a file that `run --record` wrote, or the folder of a log")
    add("--speed", type=arguments.positive, default=1.0, metavar="X", help="2: in half the time (1)")
    options.add_target(parser, vertical=False)
    logs = parser.add_argument_group("of a log")
    add = logs.add_argument
    add("--vertical", metavar="NAME", help="which of the server's verticals; the log must have its features and tasks")
    add("--candidates", default="200", metavar="N", help="ads per request: a number, dlrm-v2 or dlrm-v3 (200)")
    add("--from-s", type=float, default=0.0, metavar="S", help="begin so long after the log's first row (0)")
    add("--for-s", type=arguments.positive, default=60.0, metavar="S", help="so much of the log (60)")
    add("--seed", type=int, default=0, help="of the other candidates (0)")
    options.add_verdict(parser)
    options.add_output(parser, "replay")


def main(asked: argparse.Namespace) -> int:
    """Run it; the exit code."""
    read_events(asked.events)
    described, offsets_s, workload = _log(asked) if asked.recording.is_dir() else _recording(asked)
    setup = options.setup_of(asked, described, workload)
    schedule_s = offsets_s / asked.speed
    seconds = max(float(schedule_s[-1]), 1e-3)
    facts = {**setup.facts, "shape": "replay", "recording": asked.recording.name, "speed": asked.speed}
    facts |= {"schedule_sha256": digest_of(schedule_s), **conditions()}
    measured = measure(setup.aim, schedule_s, seconds, "replay")
    events = merged(events_since(asked.events, measured.zero_unix_s), events_of(measured.result.record))
    return finish(asked, setup, measured, events, {"conditions": facts})


def _recording(asked: argparse.Namespace) -> Given:
    _, first = read_recording(asked.recording)
    described = describe(asked.target, first.vertical)
    return described, *read_recording(asked.recording, described.tasks)


def _log(asked: argparse.Namespace) -> Given:
    if not asked.vertical:
        raise RecordingError(f"{asked.recording}: a log needs --vertical")
    described = describe(asked.target, asked.vertical)
    source, part = open_source(asked.recording), Part(asked.from_s, asked.for_s)
    sizes = sizes_of(asked.candidates)
    return described, *from_log(source, schema_of(described), asked.vertical, sizes, part=part, seed=asked.seed)

"""`exfm-loadtest referee`: MLPerf LoadGen's word on a rate."""

import argparse
import json
import sys
from pathlib import Path

from loadtest.commands import arguments, options
from loadtest.driving.rank_target import describe
from loadtest.referee.referee import NOTICE, RefereeError, measure

HELP = "let MLPerf LoadGen (used unofficially) judge a rate: its arrivals, its clock, its verdict"
EXAMPLES = """
examples:
  exfm-loadtest referee --vertical feed_click --rate 100
  exfm-loadtest referee --vertical feed_click --rate 100 --candidates dlrm-v2 --out build/referee --json

LoadGen's Server scenario: Poisson arrivals, p99 from the scheduled instant within the vertical's budget. An answer that
is refused, wrong or of a lesser tier is told to LoadGen late, so that only sound answers of the full model count. Its
own files stay in --out. This is no MLPerf submission and no MLPerf result.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    options.add_target(parser)
    add = parser.add_argument
    add("--rate", type=arguments.positive, required=True, metavar="RPS", help="requests per second")
    add("--seconds", type=arguments.positive, default=30.0, metavar="S", help="least length (30)")
    add("--candidates", default="200", metavar="N", help="ads per request: a number, dlrm-v2 or dlrm-v3 (200)")
    add("--seed", type=int, default=0, help="of requests and arrivals (0)")
    add("--out", type=Path, default=Path("build/loadtest/referee"), metavar="DIR", help="for LoadGen's files")
    add("--json", action="store_true", help="print the ruling as JSON on stdout")


def main(asked: argparse.Namespace) -> int:
    """Run it; the exit code: 0 VALID, 1 INVALID, 3 no verdict, or an INVALID that may be LoadGen's process's doing."""
    described = describe(asked.target, asked.vertical)
    bound_s = (asked.timeout_ms or described.budget_ms) / 1e3
    try:
        ruling = measure(
            asked.target,
            described.vertical,
            asked.rate,
            bound_s,
            asked.out,
            seconds=asked.seconds,
            candidates=asked.candidates,
            seed=asked.seed,
            connections=asked.connections,
            call=asked.call,
        )
    except RefereeError as error:
        sys.stderr.write(f"exfm-loadtest referee: {error}\n")
        return 3
    plain = ruling.plain()
    why = ", ".join([*ruling.summary.unsatisfied, *ruling.faults])
    word = "VALID" if ruling.summary.valid else f"{ruling.word}: {why}"
    text = f"{word} at {plain['qps']:.1f}/s, p99 {plain['p99_ms']:.2f} ms; {NOTICE}\nLoadGen's files: {ruling.files}"
    sys.stdout.write((json.dumps(plain) if asked.json else text) + "\n")
    return 0 if ruling.summary.valid else 3 if ruling.faults else 1

"""Run many seeded worlds, or one again."""

import argparse
import json
import pprint
import sys
from collections.abc import Sequence
from random import Random
from typing import Any

from bench.simulation.plan import Plan
from bench.simulation.runs import run_seeds

DESCRIPTION = """\
Play the real admission gates, control laws, estimates, batchers, breakers, ladder, hedging and watchdog on virtual
time: one to three worker processes with one or two verticals, against one to three simulated backends that are slow,
hang and die, behind a network that delays, loses, resets and parts. Before every step of the clock the invariants are
looked at: every request answered once, in time and with its own scores; in flight within the limit; permits, work and
counters in agreement. Each seed is a world of its own, the same on every machine; a violation names its seed, its
virtual time and its invariant, and the seed can be played again by its number.
"""
EXAMPLES = """\
examples:
  python -m bench.simulation --seeds 10000
  python -m bench.simulation --first 4711 --seeds 1          one world again
  python -m bench.simulation --first 4711 --seeds 1 --plan   and what is in it

exit codes: 0 no violation, 1 some, 2 bad usage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    asked = _parser().parse_args(arguments)
    if asked.plan:
        for seed in range(asked.first, asked.first + asked.seeds):
            sys.stderr.write(f"seed {seed}: {pprint.pformat(Plan.draw(Random(seed)), width=120)}\n")
    report = run_seeds(asked.first, asked.seeds, jobs=asked.jobs)
    for text in report["examples"]:
        sys.stderr.write(f"{text}\n")
    sys.stdout.write(json.dumps(report) + "\n" if asked.json else _text(report))
    return 1 if report["violations"] else 0


def _text(report: dict[str, Any]) -> str:
    ends = ", ".join(f"{end} {count}" for end, count in report["ends"].items())
    speed = f"{report['seeds']} seeds, {report['seeds_per_s']} per second, {report['steps']} steps"
    return f"{speed}, {report['requests']} requests: {ends}; violations {report['violations']}\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench.simulation",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=_count, default=5000, metavar="N", help="how many worlds (5000)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first seed (0)")
    parser.add_argument("--jobs", type=_count, default=0, metavar="N", help="processes that play (one per core)")
    parser.add_argument("--plan", action="store_true", help="show on stderr what is drawn for each of the seeds")
    parser.add_argument("--json", action="store_true", help="the report as JSON on stdout")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of them; expected 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

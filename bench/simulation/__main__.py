"""Run many seeded worlds, or one again."""

import argparse
import contextlib
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tqdm import tqdm

from bench.simulation.world import ViolationError, simulate

DESCRIPTION = """\
Play the real admission gates, control laws, breakers, ladder, hedging and watchdog on virtual time, against one to
three simulated backends that are slow, hang and die. Each seed is a world of its own; a failing one can be played
again by its number.
"""
EXAMPLES = """\
examples:
  python -m bench.simulation --seeds 10000
  python -m bench.simulation --first 4711 --seeds 1

exit codes: 0 no violation, 1 some
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    asked = _parser().parse_args(arguments)
    report = run_seeds(asked.first, asked.seeds)
    for text in report["examples"]:
        sys.stderr.write(f"{text}\n")
    sys.stdout.write(json.dumps(report) + "\n" if asked.json else _text(report))
    return 1 if report["violations"] else 0


def run_seeds(first: int, count: int, quiet: bool = False) -> dict[str, Any]:
    """Play seeds first to first + count - 1; what became of all their requests, and what went wrong."""
    ends: Counter[str] = Counter()
    wrong: list[str] = []
    began_s = time.monotonic()
    with _hushed():
        for seed in tqdm(range(first, first + count), desc="simulate", unit="seed", file=sys.stderr, disable=quiet):
            try:
                ends.update(simulate(seed).ends)
            except ViolationError as error:
                wrong.append(str(error))
    took_s = time.monotonic() - began_s
    return {
        "seeds": count,
        "violations": len(wrong),
        "seeds_per_s": round(count / took_s, 1),
        "requests": sum(ends.values()),
        "ends": dict(sorted(ends.items())),
        "examples": wrong[:10],
    }


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Worlds are full of faults, and the server's own words about each would bury the report."""
    logger = logging.getLogger("serving")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _text(report: dict[str, Any]) -> str:
    ends = ", ".join(f"{end} {count}" for end, count in report["ends"].items())
    speed = f"{report['seeds']} seeds, {report['seeds_per_s']} per second, {report['requests']} requests"
    return f"{speed}: {ends}; violations {report['violations']}\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench.simulation",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=5000, help="how many worlds (5000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--json", action="store_true", help="the report as JSON on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())

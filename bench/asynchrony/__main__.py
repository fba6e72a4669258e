"""`python -m bench.asynchrony`: kill -9 at random, the annotator's throughput and lag, the price of a history."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.asynchrony import lookup, throughput
from bench.asynchrony.kill import kill_rounds
from exfm.augment.annotate.workers import yield_to_others

DESCRIPTION = """\
Measure the asynchronous plane: what happens to logged events when processes are killed, and what annotation costs.

  annotate  the annotator with one worker process over the bare forward pass on the same batches, in turns; the lag
            from the join to the commit at half of the measured rate
  lookup    a history out of the store: alone, while 10,000 users a second are written, and through the frontend's
            look-up with its share of a budget of 25 ms
  kill      kill -9 of frontend, joiner and annotator in turn at random instants under load; the books afterwards
"""
EPILOG = """
examples:
  python -m bench.asynchrony
  python -m bench.asynchrony --only kill --rounds 20

exit codes: 0 measured, 1 could not be measured or an event was lost, repeated or unaccounted for, 2 bad usage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, each into the result as soon as it is done; the exit code."""
    asked = _parser().parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / "async.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    parts: dict[str, Callable[[Path], dict[str, Any]]] = {
        "annotate": lambda folder: _annotate(folder, asked),
        "lookup": lambda folder: lookup.measure(folder, asked.looks),
        "kill": lambda folder: kill_rounds(folder, asked.rounds, seed=asked.seed).plain(),
    }
    for name in asked.only:
        with tempfile.TemporaryDirectory(prefix=f"exfm-{name}-") as folder:
            result[name] = parts[name](Path(folder))
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        sys.stderr.write(
            f"bench-async: {name}: {json.dumps({k: v for k, v in result[name].items() if k != 'books'})}\n"
        )
    if asked.json:
        sys.stdout.write(json.dumps(result) + "\n")
    return 1 if _broken(result.get("kill", {})) else 0


def _annotate(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    yield_to_others()  # as the workers do, so that both sides are measured alike
    return throughput.measure(folder, rows=asked.rows, rounds=asked.pairs, seconds=asked.seconds)


def _broken(kill: dict[str, Any]) -> bool:
    return any(kill.get(name, 0) for name in ("lost_outcomes", "duplicates", "unaccounted", "store_wrong"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench.asynchrony",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    parts = ("lookup", "kill", "annotate")
    add("--only", nargs="+", choices=parts, default=parts, metavar="PART", help=f"of {', '.join(parts)} (all)")
    add("--rounds", type=int, default=200, metavar="N", help="kills (200)")
    add("--rows", type=int, default=60_000, metavar="N", help="examples per throughput round (60000)")
    add("--pairs", type=int, default=5, metavar="N", help="throughput rounds (5)")
    add("--seconds", type=float, default=20.0, metavar="S", help="of the lag's measurement (20)")
    add("--looks", type=int, default=20_000, metavar="N", help="histories looked up per place (20000)")
    add("--seed", type=int, default=0, help="of the kills (0)")
    add("--out", type=Path, default=Path("build/bench"), metavar="DIR", help="where async.json goes (build/bench)")
    add("--json", action="store_true", help="print the result as JSON on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())

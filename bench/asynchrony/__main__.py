"""`python -m bench.asynchrony`: the asynchronous plane under kill -9, its speed, and what serving feels of it."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.asynchrony import isolation, lookup, overhead, throughput
from bench.asynchrony.histories import SIMULATED, histories
from bench.asynchrony.kill import kill_rounds
from bench.overload.plant import BenchError
from exfm.data.errors import DataError
from exfm.data.source import resolve_data_dir
from loadtest.commands.arguments import count, positive
from serving.errors import RepositoryError

DESCRIPTION = """\
Measure the asynchronous plane: what becomes of logged events when processes are killed, what annotation costs, and what
serving feels of it.

  lookup     a history out of the store: alone, while 10,000 users a second are written, through the frontend's look-up
             with its share of a budget of 25 ms, and inside Rank, by the ledger's stage, with the same writer
  isolation  p99 of exfm-serve, open loop, with exfm-annotate flat out on the same machine over p99 without, in turns
  overhead   median of a server that logs over that of one that doesn't, open loop, in turns; both share one Triton
  kill       kill -9 of frontend, joiner, annotator and store in turn at random instants under load, by a caller over
             gRPC that ranks and records outcomes; the books afterwards. The store is embedded: its writer dies between
             the stream's commit and the store's, and every second time the store's folder is lost with it
  annotate   the annotator with one worker process over the bare forward pass on the same batches, in turns; the lag
             of a row from serving's log through the join, annotation and stream to the store, at half of the measured
             rate, with a window and a lateness of 0.1 s each, which are part of it
  histories  a student with stored histories, without, and with the ads themselves in their place, paired seeds; on
             EXFM_DATA_DIR's log; without one on the simulator's, and then the result says so

Figures hold for a machine that does nothing else. The models are the demo's, or some that are made the first time.
"""
EPILOG = """
examples:
  make bench-async
  python -m bench.asynchrony --only kill --rounds 20
  python -m bench.asynchrony --only isolation --turn-s 2 --turns 4

exit codes: 0 measured; 1 could not be measured, or an event was lost, repeated or unaccounted for, or in 40 kills or
more no store died amid an update or no history was found; 2 bad usage or input
"""


def _kill(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    return {"kill": kill_rounds(folder, asked.rounds, seed=asked.seed).plain()}


def _annotate(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    # Whoever has yielded the processor can't have it back, hence a process of its own.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        made = pool.submit(throughput.measure_yielding, folder, asked.rows, asked.pairs, asked.seconds).result()
    return {"annotate": made}


def _histories(_: Path, __: argparse.Namespace) -> dict[str, Any]:
    data_dir = resolve_data_dir(None, os.environ)
    if data_dir is None:
        sys.stderr.write(f"bench-async: WARNING: {SIMULATED}\n")
    return {"histories": histories(data_dir)}


Part = Callable[[Path, argparse.Namespace], Mapping[str, Any]]
PARTS: dict[str, Part] = {
    "lookup": lookup.measure,
    "isolation": isolation.measure,
    "overhead": overhead.measure,
    "kill": _kill,
    "annotate": _annotate,
    "histories": _histories,
}
"""Each gets an empty folder and the command line, and returns keys of `async.json`."""
ENOUGH_ROUNDS = 40
"""From so many kills on a store must have died amid an update, and histories must have been found."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, each into the result as soon as it is done; the exit code."""
    asked = _parser().parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / "async.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    try:
        for name in (part for part in PARTS if part in asked.only):
            _measure(name, asked, result)
            path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    except (RepositoryError, DataError) as error:
        sys.stderr.write(f"bench-async: {error}\n")
        return 2
    except (BenchError, TimeoutError) as error:
        sys.stderr.write(f"bench-async: {name}: {error}; so far: {path}\n")
        return 1
    if asked.json:
        sys.stdout.write(json.dumps(result) + "\n")
    broken = _broken(result.get("kill", {}))
    sys.stderr.writelines(f"bench-async: kill: {each}\n" for each in broken)
    return 1 if broken else 0


def _measure(name: str, asked: argparse.Namespace, result: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory(prefix=f"exfm-{name}-") as folder:
        made = PARTS[name](Path(folder), asked)
    result |= made
    for key, value in made.items():
        shown = {each: item for each, item in value.items() if each != "books"} if isinstance(value, dict) else value
        sys.stderr.write(f"bench-async: {key}: {json.dumps(shown)}\n")


def _broken(kill: dict[str, Any]) -> list[str]:
    """What the kills have shown that must not be, or have failed to show."""
    names = ("lost_outcomes", "duplicates", "unaccounted", "store_wrong", "failed")
    broken = [f"{name} is {kill[name]}" for name in names if kill.get(name)]
    if kill.get("rounds", 0) >= ENOUGH_ROUNDS:
        if not kill.get("store_behind"):
            broken.append("no store died amid an update")
        if not kill.get("lookups", {}).get("hit"):
            broken.append("no history was found")
    return broken


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench.asynchrony",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    parts = tuple(PARTS)
    add("--only", nargs="+", choices=parts, default=parts, metavar="PART", help=f"of {', '.join(parts)} (all)")
    add("--rounds", type=count, default=200, metavar="N", help="kills (200)")
    add("--rows", type=count, default=60_000, metavar="N", help="examples per throughput round (60000)")
    add("--pairs", type=count, default=5, metavar="N", help="throughput rounds (5)")
    add("--seconds", type=positive, default=20.0, metavar="S", help="of the lag's measurement (20)")
    add(
        "--looks",
        type=count,
        default=20_000,
        metavar="N",
        help="histories looked up per place (20000), a tenth in Rank",
    )
    add("--model-repository", type=Path, metavar="DIR", help="published models (the demo's, or some of its own)")
    add("--rate", type=positive, default=60.0, metavar="RPS", help="requests per second of isolation and overhead (60)")
    add("--candidates", type=count, default=200, metavar="N", help="ads per request of theirs (200)")
    add("--turn-s", type=positive, metavar="S", help="length of their turns (5 and 2)")
    add("--turns", type=count, metavar="N", help="turns with, and as many without (10 and 16)")
    add("--seed", type=int, default=0, help="of kills, requests and arrivals (0)")
    add("--out", type=Path, default=Path("build/bench"), metavar="DIR", help="where async.json goes (build/bench)")
    add("--json", action="store_true", help="print the result as JSON on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""`python -m bench.scale`: the distributed engines, killed, restarted, and beside the embedded ones."""

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.scale.targets import missed

DESCRIPTION = """\
Measure the engines for more than one machine, with real servers on this one, started from their wheels.

  jetstream  three nodes; the leader is killed under load: acknowledged batches lost, batches doubled, the longest gap
  valkey     look-ups of histories, and whole requests, while the server is well, killed, and back
  frontends  three of them behind client-side round robin and Envoy; one is killed under load
  logs       events per second through each event log beside the embedded one, in turns
  stores     users written and histories read through each online store beside the embedded one, in turns
  plane      log, join, annotation and histories over both; processes and servers killed in turn; the books afterwards
  ray        annotation by 1 and 2 local processes and Ray actors beside bare processes, in turns; then workers and a
             machine of a real annotator are killed: every example once
  trillion   a teacher with a table of 10^12 parameters in a sparse file, trained and annotating, against a small table
  torchrec   a teacher with its tables over two ranks beside the unsharded one: how far apart, and how fast
  planner    what exfm-annotate plan says of this machine, from rates of its parts, and what annotation then does
"""
EPILOG = """
examples:
  python -m bench.scale
  python -m bench.scale --only jetstream --kills 10

targets, of which each that is missed is said in one line:
  jetstream, plane  no event lost, doubled or unaccounted for
  frontends         no request failed that was not in flight to the one that was killed
  valkey            no more late requests while it is killed than chance explains
  ray               every example annotated once; efficiency 0.9 of bare processes
  torchrec          probabilities within 1e-6 of the unsharded teacher's
  planner           within 30 % of what is measured

exit codes: 0 measured, and all targets held; 1 could not be measured, or a target was missed; 2 bad usage
"""
Part = Callable[[Any, Path, argparse.Namespace], dict[str, Any]]


def _jetstream(module: Any, folder: Path, asked: argparse.Namespace) -> Any:
    return module.measure(folder, kills=asked.kills, steady_s=asked.steady, per_s=asked.batches_per_s)


def _valkey(module: Any, folder: Path, asked: argparse.Namespace) -> Any:
    load = {"turns": asked.turns, "seconds": asked.turn_s, "ranks_per_s": asked.ranks_per_s}
    return module.measure(folder, looks=asked.looks, per_s=asked.looks_per_s, **load)


def _frontends(module: Any, folder: Path, asked: argparse.Namespace) -> Any:
    load = {"seconds": asked.turn_s, "per_s": asked.ranks_per_s}
    return module.measure(folder, turns=asked.turns, kills=asked.kills, **load)


def _logs(module: Any, folder: Path, asked: argparse.Namespace) -> Any:
    return module.measure(folder, rounds=asked.rounds, batches=asked.batches)


def _stores(module: Any, folder: Path, asked: argparse.Namespace) -> Any:
    return module.measure(folder, rounds=10 * asked.rounds, looks=asked.looks)


def _plane(module: Any, folder: Path, asked: argparse.Namespace) -> Any:
    return module.measure(folder, rounds=asked.kill_rounds, seed=asked.seed)


def _trillion(module: Any, folder: Path, asked: argparse.Namespace) -> Any:
    return module.measure(folder, rows=asked.rows)


def _ray(module: Any, folder: Path, asked: argparse.Namespace) -> Any:
    return module.measure(folder, rounds=asked.rounds, batches=asked.tasks, kills=asked.kills)


def _torchrec(module: Any, folder: Path, asked: argparse.Namespace) -> Any:
    return module.measure(folder, rows=min(asked.rows, 20_000))


def _planner(module: Any, folder: Path, asked: argparse.Namespace) -> Any:
    return module.measure(folder, rounds=asked.rounds)


PARTS: dict[str, tuple[str, Part]] = {
    "logs": ("bench.scale.logs", _logs),
    "stores": ("bench.scale.stores", _stores),
    "valkey": ("bench.scale.outage", _valkey),
    "frontends": ("bench.scale.frontends", _frontends),
    "jetstream": ("bench.scale.failover", _jetstream),
    "plane": ("bench.scale.plane", _plane),
    "ray": ("bench.scale.actors", _ray),
    "trillion": ("bench.scale.trillion", _trillion),
    "torchrec": ("bench.scale.sharded", _torchrec),
    "planner": ("bench.scale.planner", _planner),
}
"""What can be measured, and by which module, imported only then; a part is a key of the result."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, each into the result as soon as it is done; the exit code."""
    asked = _parser().parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / "scale.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    failed = False
    for name in asked.only:
        module, measure = PARTS[name]
        try:
            with tempfile.TemporaryDirectory(prefix=f"exfm-{name}-") as folder:
                result[name] = measure(importlib.import_module(module), Path(folder), asked)
        except Exception as error:
            # The other parts are none the worse for it.
            sys.stderr.write(f"bench-scale: {name}: {type(error).__name__}: {error}\n")
            result.pop(name, None)
            failed = True
            continue
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        sys.stderr.write(f"bench-scale: {name}: {json.dumps(result[name])}\n")
    if asked.json:
        sys.stdout.write(json.dumps(result) + "\n")
    wrong = missed({name: result[name] for name in asked.only if name in result})
    sys.stderr.writelines(f"bench-scale: {each}\n" for each in wrong)
    return 1 if failed or wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench.scale",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)} (all)")
    add("--rounds", type=int, default=5, metavar="N", help="turns of each log (5)")
    add("--batches", type=int, default=300, metavar="N", help="of 100 events, per turn (300)")
    add("--looks", type=int, default=5000, metavar="N", help="histories looked up per store and phase (5000)")
    add("--looks-per-s", type=float, default=500.0, metavar="R", help="pace of the look-ups around the kill (500)")
    add("--turns", type=int, default=10, metavar="N", help="of whole requests, of each kind (10)")
    add("--turn-s", type=float, default=5.0, metavar="S", help="of whole requests (5)")
    add("--ranks-per-s", type=float, default=60.0, metavar="R", help="pace of whole requests (60)")
    add("--kills", type=int, default=5, metavar="N", help="of the leader, of Ray workers, of frontends each way (5)")
    add("--tasks", type=int, default=12, metavar="N", help="of 4096 examples, per turn of the workers (12)")
    add("--steady", type=float, default=3.0, metavar="S", help="seconds of writing before each kill (3)")
    add("--batches-per-s", type=float, default=100.0, metavar="R", help="pace of the writing around the kills (100)")
    add("--kill-rounds", type=int, default=50, metavar="N", help="kills of the plane's processes and servers (50)")
    add("--seed", type=int, default=0, help="of those kills (0)")
    add("--rows", type=int, default=60_000, metavar="N", help="of the log that the teacher learns (60000)")
    add("--out", type=Path, default=Path("build/bench"), metavar="DIR", help="where scale.json goes (build/bench)")
    add("--json", action="store_true", help="print the result as JSON on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())

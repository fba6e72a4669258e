"""`make bench-export`: what exporting brings, and that it breaks nothing."""

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.export import parity
from bench.export.contest import Entrant, engine_rows, entrant, student_ratios
from bench.export.report import table
from bench.export.students import Trained, ne_gap, train_arms
from exfm.commands.train import REFUSED
from exfm.data.source import open_source, resolve_data_dir
from exporter.engines.table import fastest, timed
from exporter.errors import ExportRefusedError
from loadtest.commands.arguments import count
from serving.errors import ServingError

SIZES = (100, 200, 500, 1000, 2000)
STUDENT_SIZES = (200, 1000)
PARTS = ("engines", "students", "parity", "publishing")
FP32 = "onnx"
DESCRIPTION = """\
Measure what exfm-export chooses from and what it publishes.

  engines     every engine on the first vertical's student, p50 and p99 of a request from its tensors to its scores,
              as ratios to the naive way: one fp32 graph in ONNX Runtime, the request's side repeated per candidate;
              all in turns, one thread
  students    the student against a DCN V2 student trained on the same days with the same teacher: NE on the last day,
              and the time of the one, as chosen, over that of the other, the naive way; every vertical
  parity      torch's probabilities against those that a real Triton answers: fp32, and the chosen engine
  publishing  kill -9 at every step, and reloading under load

Students are trained first, a minute and a half for KuaiRand-Pure on one core; the next run finds them. Figures hold for
a machine that does nothing else.
"""
EPILOG = """\
examples:
  make bench-export
  python -m bench.export --only engines --rounds 20
  python -m bench.export --json > export.json

A run with --only leaves the other parts of export.json as they are, unless they are of another log or machine.

exit codes: 0 measured (whether the promises were met is in the table), 1 could not be measured, 2 bad usage or data
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        result = run(asked)
        asked.out.mkdir(parents=True, exist_ok=True)
        path = asked.out / "export.json"
        result = merged(path, result)
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    except REFUSED as error:
        sys.stderr.write(f"bench-export: {error}\n")
        return 2
    except (ExportRefusedError, ServingError, OSError) as error:
        sys.stderr.write(f"bench-export: {error}\n")
        return 1
    sys.stdout.write(json.dumps(result) + "\n" if asked.json else f"\n{table(result)}\n\nWritten: {path}\n")
    return 0


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for; what `export.json` holds."""
    result: dict[str, Any] = {}
    if set(asked.only) - {"publishing"}:
        result |= _models(asked)
    if "publishing" in asked.only:
        result |= _publishing(asked)
    return result


def merged(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """The result, and of the file what was not measured this time.

    Figures of students go together with the log and the machine that they were measured on: of others they are dropped.
    """
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return result
    kept = before if isinstance(before, dict) else {}
    if "data" in result and any(kept.get(key) != result[key] for key in ("data", "cores")):
        kept = {key: kept[key] for key in kept if key in ("kill", "reload")}
    return {**kept, **result}


def _models(asked: argparse.Namespace) -> dict[str, Any]:
    source = open_source(resolve_data_dir(asked.data, os.environ), asked.seed)
    arms = train_arms(source, asked.out / "arms", asked.seed)
    verticals = [vertical.name for vertical in source.schema.verticals]
    result: dict[str, Any] = {"data": source.name, "cores": len(os.sched_getaffinity(0)), "rounds": asked.rounds}
    chosen = FP32
    for place, name in enumerate(verticals):
        with entrant(arms["own"].checkpoint(name), _whisper) as own:
            if not place:
                races = own.race(SIZES, asked.rounds)
                result |= {"engines": engine_rows(own.trials, races), "not_run": _not_run(own)}
                chosen = result["chosen"] = fastest(timed(own.trials, races)).engine
            if "students" in asked.only:
                result.setdefault("students", {})[name] = _students(arms, name, own, chosen, asked.rounds)
    if "students" in asked.only:
        result["student_vs_naive"] = _worst(result["students"])
    if "parity" in asked.only:
        checkpoints = {name: arms["own"].checkpoint(name) for name in verticals}
        off = parity.measure(checkpoints, list(dict.fromkeys((FP32, chosen))), asked.out / "export", _whisper)
        result |= {"parity_max_abs": off[FP32], "parity": off}
    return result


def _students(arms: dict[str, Trained], name: str, own: Entrant, engine: str, rounds: int) -> dict[str, Any]:
    engines = list(dict.fromkeys((FP32, engine)))
    with entrant(arms["naive"].checkpoint(name), _whisper, engines) as naive:
        ratios = student_ratios(own, naive, engine, STUDENT_SIZES, rounds)
    gap = ne_gap(arms["own"], arms["naive"])[name]
    return {**ratios, "engine": engine, "ne": arms["own"].ne[name], "ne_naive": arms["naive"].ne[name], "ne_gap": gap}


def _worst(students: dict[str, dict[str, Any]]) -> dict[str, float]:
    each = list(students.values())
    ratios = {str(size): max(student[str(size)]["ratio"] for student in each) for size in STUDENT_SIZES}
    return {**ratios, "ne_gap": max(student["ne_gap"] for student in each)}


def _not_run(own: Entrant) -> dict[str, str]:
    return {trial.engine: trial.reason for trial in own.trials if trial.engine not in own.built}


def _publishing(asked: argparse.Namespace) -> dict[str, Any]:
    """The sections `kill` and `reload`; nothing where that part is not there."""
    if importlib.util.find_spec("bench.export.publishing") is None:
        _whisper("bench-export: there is no bench.export.publishing here; its figures are left out")
        return {}
    measured: dict[str, Any] = importlib.import_module("bench.export.publishing").measure(asked)
    return measured


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench.export",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", metavar="DIR", help="folder with a log (default: $EXFM_DATA_DIR, else the simulator)")
    add("--out", type=Path, default=Path("build/bench"), metavar="DIR", help="where everything goes (build/bench)")
    add("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)} (all)")
    add("--rounds", type=count, default=200, metavar="N", help="measurements of each engine and size (200)")
    add("--seed", type=int, default=0, help="of training and requests (0)")
    add("--json", action="store_true", help="print the result as JSON on stdout, everything else on stderr")
    return parser


def _whisper(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())

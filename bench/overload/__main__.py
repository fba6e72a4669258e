"""`make bench-overload`: finds the server's rated capacity, then asks for ten times as much, and breaks its Triton."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.overload import scenarios
from bench.overload.capacity import NoCapacityError
from bench.overload.direct import measure_frontend
from bench.overload.load import loading
from bench.overload.messages import make_pools
from bench.overload.plant import BenchError, running
from bench.overload.report import checks, table
from bench.overload.repository import find_or_make
from bench.overload.scenarios import Bench
from loadtest.commands.arguments import count, positive
from serving.catalog import Vertical
from serving.errors import RepositoryError, UnknownVerticalError
from serving.repository import load_catalog

PARTS = ("runs", "step", "stall", "kill", "mixed", "frontend", "simulation")
EACH = 24
"""Different messages per size."""
DESCRIPTION = """\
Overload the ranking server and see whether it keeps its budget.

exfm-serve and its embedded Triton run on this machine; a generator in a process of its own sends Poisson arrivals at
scheduled instants, whatever became of those before. The rated capacity C is the largest rate with p99 within the budget
and at least 99 % of the requests answered by the full tier; it is searched first, and lowered if the long run at it
isn't as good. Then:

  runs        1C, 2C, 5C and 10C
  step        1C, 10C, 1C: how soon the full tier is back
  stall       SIGSTOP of Triton for 5 s at C/2, then SIGCONT
  kill        kill -9 of Triton at C/2; the server restarts it
  mixed       100 candidates, at half of C, alone and among requests of 500 to 2000, a quarter of C's candidates
  frontend    a ranking over a direct Triton call with the same tensors, in turns, medians
  simulation  python -m bench.simulation: the real admission, ladder and watchdog on virtual time

Late is every request without an answer or a shed refusal in the generator's hands within the budget of its *scheduled*
instant: calls that the deadline ended, failed calls and the generator's own delays included. Latencies run from the
scheduled instant. Each call's gRPC deadline is what is left of the budget when it is sent; a call that the deadline
ended counts with the instant at which it ended. In stall and kill, calls wait for four budgets instead, so that the
server's own limit must end them and overshoot shows how late its answers are; there the budget runs from the sending.

The requests are random draws from the published schema. The generator's share of all CPU time, the largest of all the
runs, must stay below a third, or it would measure itself: with few candidates a request costs the server little more
than the generator, hence the default of 2000. The generator raises its own priority where it may. Figures hold for a
machine that does nothing else.
"""
EPILOG = """
examples:
  make bench-overload
  python -m bench.overload --seconds 5 --only runs step
  python -m bench.overload --serve-arguments '--reply-reserve-ms 4' --out build/bench/reserve4

exit codes: 0 measured (whether the promises were met is in the table), 1 could not be measured, 2 bad usage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; the exit code."""
    asked = _parser().parse_args(arguments)
    result: dict[str, Any] = {}
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
        run(asked, result)
    except (RepositoryError, UnknownVerticalError, FileExistsError, PermissionError) as error:
        sys.stderr.write(f"bench-overload: {error}\n")
        return 2
    except (BenchError, NoCapacityError, OSError) as error:
        result["failed"] = str(error)
    # What was measured before a failure has cost minutes and stays.
    path = asked.out / "overload.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if "failed" in result:
        sys.stderr.write(f"bench-overload: {result['failed']}; so far: {path}\n")
        return 1
    sys.stdout.write(json.dumps(result) + "\n" if asked.json else f"\n{table(result)}\n\nWritten: {path}\n")
    return 0


def run(asked: argparse.Namespace, result: dict[str, Any]) -> None:
    """Everything, entered into `result`, which is what `overload.json` holds."""
    repository = find_or_make(asked.model_repository, asked.out)
    catalog = load_catalog(repository)
    vertical = catalog.find(asked.vertical or next(iter(catalog)))
    candidates = min(asked.candidates, vertical.max_candidates)
    sizes = {candidates, *(min(size, vertical.max_candidates) for size in (scenarios.SMALL, *scenarios.LARGE))}
    pools = make_pools(vertical, sorted(sizes), EACH, asked.seed)
    result |= _conditions(asked, repository, vertical, candidates)
    with (
        running(repository, asked.out, asked.serve_arguments) as plant,
        loading(plant, pools, asked.out, vertical.budget_s, connections=asked.connections, seed=asked.seed) as load,
    ):
        bench = Bench(load, plant, vertical, candidates, asked.seconds, asked.restart_s)
        if "frontend" in asked.only:
            frontend = measure_frontend(plant.address, plant.triton, vertical, pools[candidates], asked.calls)
            result |= asdict(frontend) if frontend else {"frontend_ratio": None}
        bench.send(scenarios.FIRST_RPS, 2.0, "warm-up")
        _load_parts(bench, asked, result)
    if "simulation" in asked.only:
        result |= _simulation(asked.seeds)
    result["checks"] = [check.plain() for check in checks(result)]


def _load_parts(bench: Bench, asked: argparse.Namespace, result: dict[str, Any]) -> None:
    rated_rps = asked.capacity or scenarios.capacity(bench, _whisper)
    result["capacity_rps"] = rated_rps
    if "runs" in asked.only:
        lowerings = 0 if asked.capacity else scenarios.LOWERINGS
        rated_rps, first = scenarios.rated(bench, rated_rps, lowerings, _whisper)
        result["capacity_rps"], result["runs"] = rated_rps, [first]
        result["runs"] += (scenarios.overload(bench, rated_rps, multiple) for multiple in scenarios.MULTIPLES[1:])
    parts = {"step": scenarios.step, "mixed": scenarios.mixed, "stall": scenarios.stall, "kill": scenarios.kill}
    for name, scenario in parts.items():
        if name in asked.only:
            result[name] = scenario(bench, rated_rps)
    measured = [*result["runs"], *(result[name] for name in parts if name in result)]
    result["generator_cpu_share"] = max((each["generator_cpu_share"] for each in measured), default=None)


def _simulation(seeds: int) -> dict[str, Any]:
    """What the simulation says of itself; nothing where there is none."""
    if importlib.util.find_spec("bench.simulation.__main__") is None:
        _whisper("bench-overload: there is no bench.simulation here; its figures are left out")
        return {}
    command = [sys.executable, "-m", "bench.simulation", "--seeds", str(seeds), "--json"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if not ended.stdout.strip():
        raise BenchError(f"the simulation ended with {ended.returncode} and no report")
    return {"simulation": json.loads(ended.stdout)}


def _conditions(asked: argparse.Namespace, repository: Path, vertical: Vertical, candidates: int) -> dict[str, Any]:
    return {
        "budget_ms": vertical.budget_s * 1e3,
        "candidates": candidates,
        "vertical": vertical.name,
        "model_repository": str(repository),
        "seconds": asked.seconds,
        "seed": asked.seed,
        "cores": len(os.sched_getaffinity(0)),
        "connections": asked.connections,
        "serve_arguments": asked.serve_arguments,
        "runs": [],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench.overload",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seconds", type=positive, default=30.0, metavar="S", help="of each overload run (30); 5 to try things")
    add("--candidates", type=count, default=2000, metavar="N", help="ads per request (2000)")
    add("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)} (all)")
    add("--capacity", type=positive, metavar="RPS", help="take this as C instead of searching for it")
    add("--model-repository", type=Path, metavar="DIR", help="published models (the demo's, or some of its own)")
    add("--vertical", default="", metavar="NAME", help="which of its verticals (the first)")
    add("--out", type=Path, default=Path("build/bench"), metavar="DIR", help="where everything goes (build/bench)")
    add("--serve-arguments", default="", metavar="TEXT", help="more arguments for exfm-serve, as one string")
    add("--connections", type=count, default=8, metavar="N", help="of the generator to the server (8)")
    add("--calls", type=count, default=500, metavar="N", help="pairs of calls for the frontend's ratio (500)")
    add("--restart-s", type=positive, default=20.0, metavar="S", help="load goes on that long after kill -9 (20)")
    add("--seeds", type=count, default=5000, metavar="N", help="worlds of the simulation (5000)")
    add("--seed", type=int, default=0, help="of requests and arrivals (0)")
    add("--json", action="store_true", help="print the result as JSON on stdout, everything else on stderr")
    return parser


def _whisper(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())

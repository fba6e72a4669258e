"""`make bench-peers`: this product against the other ways to serve a model, and the referee's word on both."""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.overload.repository import find_or_make
from bench.peers.page import page
from loadtest.peers import command
from loadtest.peers.errors import ModelFolderError, PeerUnavailableError
from loadtest.peers.model import find_model
from loadtest.peers.systems import Exfm
from loadtest.peers.turns import spread
from loadtest.referee.referee import RefereeError, confirm, measure

OUT = Path("build/bench")
DESCRIPTION = """\
Capacity (p99 within the budget) and goodput at 1, 2 and 4 times the best peer's capacity, of exfm and its peers, in
turns; then MLPerf LoadGen, unofficially, as a referee of exfm's capacity; then the generator itself against a server
whose stalls are known, with a closed loop beside it. Writes build/bench/peers.json and peers.html.

Without --model-repository the demo's models are served, or students learned quickly from the simulator.
"""
EPILOG = """
examples:
  make bench-peers
  python -m bench.peers --seconds 3 --repeats 1 --only exfm,fastapi
  python -m bench.peers --naive trained/model_repository

exit codes: 0 measured (what came of it is in the table), 1 could not be measured, 2 bad usage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; the exit code."""
    asked = _parser().parse_args(arguments)
    result: dict[str, Any] = {}
    try:
        run(asked, result)
    except (ModelFolderError, command.UsageError) as error:
        sys.stderr.write(f"bench-peers: {error}\n")
        return 2
    except (PeerUnavailableError, RefereeError, OSError) as error:
        result["failed"] = str(error)
    # What was measured before a failure has cost minutes and stays.
    if "capacity_rps" in result:
        _write(asked.bench_out, result)
    if "failed" in result:
        sys.stderr.write(f"bench-peers: {result['failed']}\n")
        return 1
    sys.stdout.write(json.dumps(result) + "\n" if asked.json else f"{command.table(result)}\n\n{asked.bench_out}\n")
    return 0


def run(asked: argparse.Namespace, result: dict[str, Any]) -> None:
    """Everything, entered into `result`, which is what `peers.json` holds."""
    asked.model_repository = find_or_make(asked.model_repository, OUT)
    comparison, facts = command.set_up(asked)
    result |= facts
    result |= comparison.result  # the same objects: what the comparison enters stands here, too
    command.drive(comparison)
    result |= comparison.result
    result["medians"] = medians(result)
    if "selftest" not in asked.skip:
        result["generator_selftest"] = selftest()
    found = result["capacity_rps"].get("exfm")
    if "loadgen" not in asked.skip and found and median(found) > 0:
        result["loadgen"] = referee(asked, median(found))


def referee(asked: argparse.Namespace, capacity_rps: float) -> dict[str, Any]:
    """LoadGen's ruling on the capacity that was found, and the one that it is VALID at, within 10 %."""
    student = find_model(asked.model_repository, asked.vertical)
    system = Exfm("exfm", student, tuple(asked.serve_arguments.split()))
    with system.running(asked.out / "logs" / "loadgen.log") as running:
        rulings = confirm(
            capacity_rps,
            lambda rate_rps: measure(
                running.address,
                student.vertical,
                rate_rps,
                student.budget_s,
                asked.bench_out / "loadgen" / f"{rate_rps:.0f}",
                seconds=asked.seconds,
                candidates=str(asked.candidates),
                seed=asked.seed,
            ),
        )
    return {**rulings[-1].plain(), "capacity_rps": capacity_rps, "rulings": [each.plain() for each in rulings]}


def selftest() -> dict[str, Any]:
    """What `exfm-loadtest selftest` says of the generator; empty if it ended without a word."""
    run = [sys.executable, "-m", "loadtest.commands.main", "selftest", "--json"]
    done = subprocess.run(run, stdout=subprocess.PIPE, text=True, check=False)
    return dict(json.loads(done.stdout)) if done.stdout.strip() else {}


def medians(result: dict[str, Any]) -> dict[str, Any]:
    """Per system the median and the spread of its repeats."""
    made: dict[str, Any] = {}
    for name, values in result["capacity_rps"].items():
        good = result["goodput_rps"].get(name, {})
        made[name] = {"capacity_rps": median(values), "capacity_spread": spread(values)}
        made[name]["goodput_rps"] = {key: median(each) for key, each in good.items()}
        made[name]["goodput_spread"] = {key: spread(each) for key, each in good.items()}
    return made


def _write(out: Path, result: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "peers.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if any(result["capacity_rps"].values()):
        (out / "peers.html").write_text(page(result), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add(parser)
    parser.set_defaults(model_repository=None)
    add = parser.add_argument
    add("--skip", choices=("loadgen", "selftest"), nargs="*", default=(), help="parts to leave out")
    add("--bench-out", type=Path, default=OUT, metavar="DIR", help=f"for peers.json and peers.html ({OUT})")
    return parser


if __name__ == "__main__":
    sys.exit(main())

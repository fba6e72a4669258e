"""`make bench-peers`: this product against the other ways to serve a model, and the referee's word on both."""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import exfm
import exporter
import loadtest
import serving
from bench.export.students import code_digest
from bench.peers import models, resume
from bench.peers.lacks import lacks
from bench.peers.page import page
from exfm.commands.train import REFUSED
from exporter.errors import ExportRefusedError
from loadtest.commands import peers as command
from loadtest.peers.compare import started
from loadtest.peers.errors import ModelFolderError, PeerUnavailableError
from loadtest.peers.headline import headline
from loadtest.peers.model import find_model
from loadtest.peers.systems import Exfm
from loadtest.peers.telling import p99, table
from loadtest.peers.turns import middle, spread
from loadtest.referee.referee import LEAST_QUERIES, RefereeError, Ruling, confirm, measure
from loadtest.verdict.judge import INTERRUPTED

OUT = Path("build/bench")
RESULT, PAGE = "peers.json", "peers.html"
WARM_SHARE = 0.8
DESCRIPTION = """\
Capacity (p99 within the budget) and goodput at 1, 2 and 4 times the best peer's capacity, of exfm and its peers, in
turns; then MLPerf LoadGen, unofficially, as a referee of exfm's capacity; then the generator itself against a server
whose stalls are known, with a closed loop beside it. Writes build/bench/peers.json and peers.html.

Two students are trained first, on the same days with the same teacher, a minute and a half for KuaiRand-Pure on one
core; the next run finds them. exfm serves the one built for serving; all others, and exfm_same_onnx, serve the naive
one: a DCN V2 as one fp32 graph that repeats the request's side for each candidate. The result says how far apart their
NE is. With --model-repository the students there take the place of the first, and nothing is trained.
"""
EPILOG = """
examples:
  make bench-peers
  python -m bench.peers --seconds 3 --repeats 1 --only exfm,fastapi
  python -m bench.peers --candidates 1000 --bench-out build/bench/thousand
  EXFM_DATA_DIR=data make bench-peers
  python -m bench.peers --resume
  python -m bench.peers --model-repository build/demo/model_repository --naive trained/model_repository

peers.json grows after each turn; `finished` is true in one that lacks nothing, else `lacks` says what. With --resume a
run that was stopped goes on: on the same machine, with the same models and options, and at its next turn.

exit codes: 0 measured (what came of it is in the table), 1 could not be measured, or the generator was the bottleneck
in every repeat of a figure, 2 bad usage or data, 130 stopped
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; the exit code."""
    asked = _parser().parse_args(arguments)
    result: dict[str, Any] = {}
    try:
        run(asked, result)
    except (ModelFolderError, command.UsageError, *REFUSED) as error:
        sys.stderr.write(f"bench-peers: {error}\n")
        return 2
    except (PeerUnavailableError, RefereeError, ExportRefusedError, OSError) as error:
        result["failed"] = str(error)
    except KeyboardInterrupt:
        sys.stderr.write("bench-peers: stopped; what was finished is kept, and --resume goes on from there\n")
        return INTERRUPTED
    else:
        result["lacks"] = lacks(asked, result)
        result["finished"] = not result["lacks"]
    if "capacity_rps" in result:
        _save(asked.bench_out, result)
        _show(asked.bench_out, result)
    if "failed" in result:
        sys.stderr.write(f"bench-peers: {result['failed']}\n")
        return 1
    sys.stdout.write(json.dumps(result) + "\n" if asked.json else f"{table(result)}\n\n{asked.bench_out}\n")
    for text in [] if asked.json else result["lacks"]:
        sys.stdout.write(f"lacks: {text}\n")
    return command.code_of(result)


def run(asked: argparse.Namespace, result: dict[str, Any]) -> None:
    """Everything, entered into `result`, which is what `peers.json` holds."""
    if asked.model_repository is None:
        trained = models.find_or_train(asked.data, asked.vertical, asked.bench_out, asked.seed)
        asked.model_repository, asked.naive = trained.own, asked.naive or trained.naive
    comparison, facts = command.set_up(asked)
    facts["code"] = code_digest(*(Path(each.__path__[0]) for each in (exfm, exporter, serving, loadtest)))
    result |= {"finished": False, **facts}

    def save() -> None:
        result.update(comparison.result)
        result["medians"] = medians(result)
        result["headline"] = headline(result)
        _save(asked.bench_out, result)

    if asked.resume:
        result |= resume.resumed(asked.bench_out / RESULT, comparison, facts)
    else:
        save()  # from here on it is this run that can be gone on with
        (asked.bench_out / PAGE).unlink(missing_ok=True)
    command.drive(comparison, save)
    save()
    if "selftest" not in asked.skip and not result.get("generator_selftest"):
        result["generator_selftest"] = selftest()
        save()
    found = result["capacity_rps"].get("exfm")
    if "loadgen" not in asked.skip and "loadgen" not in result and found and median(found) > 0:
        result["loadgen"] = referee(asked, median(found))


def referee(asked: argparse.Namespace, capacity_rps: float) -> dict[str, Any]:
    """LoadGen's ruling on the capacity that was found, and the one that it is VALID at, within 10 %."""
    student = find_model(asked.model_repository, asked.vertical)
    system = Exfm("exfm", student, tuple(shlex.split(asked.serve_arguments)))
    with started(system, asked.out / "logs" / "loadgen.log") as running:

        def rule(rate_rps: float, least_queries: int = LEAST_QUERIES) -> Ruling:
            return measure(
                running.address,
                student.vertical,
                rate_rps,
                student.budget_s,
                asked.bench_out / "loadgen" / f"{rate_rps:.0f}",
                seconds=asked.seconds,
                candidates=str(asked.candidates),
                seed=asked.seed,
                call="stream",  # as the capacity was found
                least_queries=least_queries,
            )

        # The capacity is that of a server that has been at work for a while; this one has just been started.
        rule(WARM_SHARE * capacity_rps, 1)
        rulings = confirm(capacity_rps, rule)
    last = rulings[-1]
    made = {**last.plain(), "capacity_rps": capacity_rps, "confirmed": last.confirms(capacity_rps)}
    return {**made, "rulings": [each.plain() for each in rulings]}


def selftest() -> dict[str, Any]:
    """What `exfm-loadtest selftest` says of the generator; empty if it ended without a word."""
    run = [sys.executable, "-m", "loadtest.commands.main", "selftest", "--json"]
    done = subprocess.run(run, stdout=subprocess.PIPE, text=True, check=False)
    return dict(json.loads(done.stdout)) if done.stdout.strip() else {}


def medians(result: dict[str, Any]) -> dict[str, Any]:
    """Per system the median and the spread of its repeats; null where the generator spoiled all of them."""
    made: dict[str, Any] = {}
    late = p99(result)
    for name, values in result["capacity_rps"].items():
        good = result["goodput_rps"].get(name, {})
        made[name] = {"capacity_rps": middle(values), "capacity_spread": spread(values)}
        made[name]["goodput_rps"] = {key: middle(each) for key, each in good.items()}
        made[name]["goodput_spread"] = {key: spread(each) for key, each in good.items()}
        full = result.get("full_goodput_rps", {}).get(name, {})
        made[name]["full_goodput_rps"] = {key: middle(each) for key, each in full.items()}
        made[name]["p99"] = late.get(name, {})
    return made


def _save(out: Path, result: dict[str, Any]) -> None:
    """What was measured has cost minutes and stays, whatever comes next."""
    out.mkdir(parents=True, exist_ok=True)
    aside = out / ".peers.json.partial"
    aside.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    aside.replace(out / RESULT)


def _show(out: Path, result: dict[str, Any]) -> None:
    if any(result["capacity_rps"].values()):
        (out / PAGE).write_text(page(result), encoding="utf-8")


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
    add("--data", metavar="DIR", help="log to train from (default: $EXFM_DATA_DIR, else the simulator)")
    add("--skip", choices=("loadgen", "selftest"), nargs="*", default=(), help="parts to leave out")
    add("--resume", action="store_true", help="go on with the peers.json of a run that was stopped")
    add("--bench-out", type=Path, default=OUT, metavar="DIR", help=f"for peers.json and peers.html ({OUT})")
    return parser


if __name__ == "__main__":
    sys.exit(main())

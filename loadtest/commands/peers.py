"""`exfm-loadtest peers`: other ways to serve the same model, side by side."""

import argparse
import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from exfm.features.signature import PROBABILITY
from loadtest.commands import arguments
from loadtest.driving.conditions import conditions
from loadtest.peers import naive
from loadtest.peers.catalog import ABOUT, systems
from loadtest.peers.compare import MULTIPLES, Comparison, Plan
from loadtest.peers.environments import VARIABLE, cache_folder
from loadtest.peers.errors import ModelFolderError
from loadtest.peers.model import Model, find_model
from loadtest.peers.quality import quality_of
from loadtest.peers.samples import draw_samples, same_schema
from loadtest.peers.systems import System
from loadtest.peers.telling import lacking, table, without_median
from loadtest.verdict.judge import INTERRUPTED

HELP = "compare with other servers: same machine, model, requests and arrivals, in turns"
EXAMPLES = f"""
examples:
  exfm-loadtest peers --model-repository build/demo/model_repository
  exfm-loadtest peers --seconds 5 --repeats 1 --only exfm,fastapi,mosec
  exfm-loadtest peers --list
  exfm-loadtest peers --naive trained/model_repository --json

Starts, drives and compares in turns: ours; plain Triton with dynamic batching; Triton with queue timeouts; FastAPI with
ONNX Runtime; mosec; BentoML; Ray Serve; LitServe. Each peer gets an environment of its own, built once under
build/peers (or {VARIABLE}); one that can't be installed is skipped and says why.

The peers serve a naive model, a DCN V2 over all features of each candidate as one ONNX file; `exfm` serves the
published student, `exfm_same_onnx` the very same naive file. Without --naive its weights are random: right for speed,
worth nothing as a model. With a repository the result says how far apart the two models' NE is.
Capacity is the largest Poisson rate with p99 within the budget; goodput is what a model has scored within the budget,
at multiples of the best peer's capacity. Late is late for everyone: latency runs from the scheduled instant.
"""
SAMPLES = 24


class UsageError(ValueError):
    """An option asks for something that isn't there."""


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    option = parser.add_argument
    home = Path("build/demo/model_repository")
    option("--model-repository", type=Path, default=home, metavar="DIR", help=f"published students ({home})")
    option("--vertical", default="", metavar="NAME", help="which of its verticals (the first)")
    option("--naive", type=Path, metavar="PATH", help="the naive model: an ONNX file, or a model repository")
    option("--candidates", type=arguments.count, default=200, metavar="N", help="per request (200)")
    seconds = "of a goodput run; probes take a third (8)"
    option("--seconds", type=arguments.positive, default=8.0, metavar="S", help=seconds)
    option("--repeats", type=arguments.count, default=2, metavar="N", help="of everything (2)")
    option(
        "--multiples", type=_multiples, default=MULTIPLES, metavar="M,...", help="of the best peer's capacity (1,2,4)"
    )
    option("--only", type=_names, default=(), metavar="NAME,...", help="these systems and no others")
    option("--serve-arguments", default="", metavar="TEXT", help="more options for exfm-serve, as one text")
    option("--seed", type=int, default=0, help="of requests and arrivals (0)")
    option("--out", type=Path, default=Path("build/peers/run"), metavar="DIR", help="for logs (build/peers/run)")
    option("--list", action="store_true", help="say which systems there are, and stop")
    option("--json", action="store_true", help="print the result as JSON on stdout")


def main(asked: argparse.Namespace) -> int:
    """Compare and print; the exit code.

    0 measured, 1 nothing could be or a figure has no median, 2 bad usage or no model, 130 cut short.
    """
    try:
        comparison, facts = set_up(asked)
    except (ModelFolderError, UsageError) as error:
        sys.stderr.write(f"exfm-loadtest peers: {error}\n")
        return 2
    if asked.list:
        names = facts["systems"]
        sys.stdout.write(json.dumps(names) + "\n" if asked.json else "\n".join(names) + "\n")
        return 0
    whole = True
    try:
        drive(comparison)
    except KeyboardInterrupt:  # what was measured has cost hours and is told
        whole = False
    result = {**facts, **comparison.result, "interrupted": not whole}
    result["lacks"] = lacking(result)
    sys.stdout.write(json.dumps(result) + "\n" if asked.json else table(result) + "\n")
    return INTERRUPTED if not whole else code_of(result)


def code_of(result: Mapping[str, Any]) -> int:
    """The exit code of a comparison that came to its end: 0, or 1 if nothing was measured or a median is missing."""
    return 0 if any(result["capacity_rps"].values()) and not without_median(result) else 1


def set_up(asked: argparse.Namespace) -> tuple[Comparison, dict[str, Any]]:
    """The comparison that was asked for, and its conditions.

    Raises:
        ModelFolderError: no published model.
        UsageError: `--only` names no system, or the models don't fit one another.
    """
    student = find_model(asked.model_repository, asked.vertical)
    base = naive_model(asked.naive, student, asked.out)
    if not same_schema((student, base)):
        raise UsageError(f"--naive {asked.naive}: another schema than {student.folder}")
    if asked.candidates > student.max_candidates:
        raise UsageError(f"--candidates {asked.candidates}: {student.vertical} takes {student.max_candidates}")
    chosen = _chosen(systems(student, base, cache_folder(), shlex.split(asked.serve_arguments)), asked.only)
    plan = Plan(asked.seconds, asked.repeats, asked.multiples, asked.seed, asked.out.absolute() / "logs")
    samples = draw_samples(student, asked.candidates, SAMPLES, asked.seed)
    return Comparison(chosen, samples, plan, _say), _facts(asked, student, base, chosen)


def drive(comparison: Comparison, done: Callable[[], object] = lambda: None) -> None:
    """Install and measure everything, with bars on stderr; `done` is called after each system's turn."""
    with tqdm(desc="install", unit="system", file=sys.stderr, disable=None) as bar:
        comparison.prepare(bar.update)
    with tqdm(desc="measure", unit="turn", total=comparison.steps(), file=sys.stderr, disable=None) as bar:

        def advance() -> None:
            bar.update()
            done()

        comparison.run(advance)


def naive_model(given: Path | None, student: Model, out: Path) -> Model:
    """What the peers serve: a given repository, a given ONNX file, or a graph with random weights."""
    if given is not None and given.is_dir():
        return find_model(given, student.vertical)
    graph = given or out / "naive.onnx"
    if given is None:
        naive.write_graph(student.schema, graph)
    elif not given.is_file():
        raise ModelFolderError(f"{given}: no such file or folder")
    return naive.repository_with(graph, student, out / "naive_repository")


def _facts(asked: argparse.Namespace, student: Model, base: Model, chosen: Sequence[System]) -> dict[str, Any]:
    return {
        "machine": conditions(),
        "systems": [system.name for system in chosen],
        "about": {system.name: ABOUT[system.name] for system in chosen},
        "vertical": student.vertical,
        "budget_ms": student.budget_s * 1e3,
        "candidates": asked.candidates,
        "seconds": asked.seconds,
        "repeats": asked.repeats,
        "multiples": list(asked.multiples),
        "seed": asked.seed,
        "serve_arguments": shlex.split(asked.serve_arguments),
        "models": {
            "student": _model_facts(student),
            "naive": {**_model_facts(base), "weights": "random" if asked.naive is None else "given"},
        },
        "quality": quality_of(student, base),
    }


def _model_facts(model: Model) -> dict[str, Any]:
    """The digest is the golden answers', so that of two models in one folder it tells which."""
    golden = hashlib.sha256(model.golden[PROBABILITY].tobytes()).hexdigest()
    return {"folder": str(model.folder), "quality": model.manifest.get("quality", {}), "golden": golden}


def _chosen(found: Sequence[System], only: Sequence[str]) -> list[System]:
    names = [system.name for system in found]
    if unknown := [name for name in only if name not in names]:
        raise UsageError(f"--only {unknown[0]}: there are {', '.join(names)}")
    return [system for system in found if not only or system.name in only]


def _say(text: str) -> None:
    tqdm.write(text, file=sys.stderr)


def _multiples(text: str) -> tuple[int, ...]:
    return tuple(arguments.count(part) for part in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)

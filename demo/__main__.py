"""The main job in one go: data in, ranked ads out. Run by `make demo`."""

import argparse
import asyncio
import json
import math
import os
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from demo.arguments import parser
from demo.exposures import SHOWN, exposures, serve_exposures
from demo.holdout import HoldoutError, first_held_out, holdout_s
from demo.loop import EMBEDDING, Annotated, annotate, places_of, refreshed, share_with_history, with_histories
from demo.replay import Load, Replayed, replay
from demo.requests import Request, held_out_requests
from demo.server import DemoError, serving
from demo.show import latency_line, learning_table, loop_lines, ranked_list
from exfm.augment.places import Places
from exfm.commands.train import REFUSED
from exfm.data.source import Source, open_source, resolve_data_dir
from exfm.distill.config import TrainConfig, load_config
from exfm.distill.scoring import TrainingReport
from exfm.distill.trainer import Progress
from exfm.distill.training import train
from exporter.compare import QualityGate
from exporter.errors import ExportRefusedError
from exporter.export import export
from exporter.options import DEFAULT_OPTIONS, ExportOptions
from exporter.signing import OWN_KEY, make_key, trust
from loadtest.verdict.summary import summarise
from serving.errors import ServingError

AGAIN = 300
"""Requests to the refreshed students."""
MEASURED = (1, 100, 500)
"""Candidates that their exports measure latency at: fewer than usual, for the demo's sake."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 done, 1 a step failed, 2 the data was refused."""
    asked = parser().parse_args(arguments)
    path = asked.out / "summary.json"
    try:
        summary = without_nan(run(asked))
        path.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except (*REFUSED, HoldoutError) as error:
        sys.stderr.write(f"demo: {error}\n")
        return 2
    except (DemoError, ExportRefusedError, ServingError, OSError) as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    _say(json.dumps(summary, allow_nan=False) if asked.json else f"Written: {path}")
    return 0


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """All steps; returns what `summary.json` holds."""
    asked.out.mkdir(parents=True, exist_ok=True)
    say = _whisper if asked.json else _say
    data_dir = resolve_data_dir(asked.data, os.environ)
    if data_dir is None:
        say("No data given (EXFM_DATA_DIR or --data): this is the simulator, whose true probabilities are known.")
    source = open_source(data_dir, asked.seed)
    config = _config(source, asked)
    report = _learn(source, config, asked.out / "run")
    say(learning_table(report))
    repository = asked.out / "model_repository"
    shutil.rmtree(repository, ignore_errors=True)
    trust(repository, make_key(repository / OWN_KEY).key.public_key())
    _publish(source, asked.out / "run", repository)
    pool, places = _requests(source, asked), places_of(asked.out)
    load = Load(asked.rate, asked.requests, asked.seed)
    logging = ("--log", places.log, "--shown", str(SHOWN))
    with serving(repository, asked.out / "serve.log", logging) as server:
        version = server.triton_version()
        replayed = _replay(server.address, pool, load)
        told = _show_exposures(server.address, source, pool)
    budgets_ms = {vertical.name: vertical.budget_ms for vertical in source.schema.verticals}
    summary = summarise(replayed.replies, [budgets_ms[request.vertical] for request in replayed.requests])
    served = {v.name: replayed.served_auc(v.name, v.tasks[0]) for v in source.schema.verticals}
    say(_example(replayed))
    say(latency_line(summary, asked.rate, served, budgets_ms))
    closed = _close_the_loop(source, config, asked, repository=repository, pool=pool, places=places)
    loop = {"outcomes_told": told, **closed}
    say(loop_lines(loop))
    return {
        "data": source.name,
        "triton": {"version": version},
        "verticals": {name: _figures(report, name, served[name]) for name in report.verticals},
        "serving": {
            "candidates": statistics.median_low(len(request.ads) for request in replayed.requests),
            "rate": load.rate_rps,
            **asdict(summary),
            **({"budgets_ms": budgets_ms} if len(set(budgets_ms.values())) > 1 else {}),
        },
        "loop": loop,
    }


def _close_the_loop(
    source: Source,
    config: TrainConfig,
    asked: argparse.Namespace,
    *,
    repository: Path,
    pool: list[Request],
    places: Places,
) -> dict[str, Any]:
    """Annotate what was served, train and publish refreshed students, and ask them the same once more."""
    times = source.examples.time_ms
    until = first_held_out(times, config.stream.holdout_s)
    made: Annotated = annotate(places, asked.out / "run" / "teacher.pt", source.examples.slice(0, until))
    fresh = refreshed(source, until, places)
    _learn(fresh, with_histories(config), asked.out / "refreshed")
    # Its figures are of what was served, the first one's of the log's last day: neither is a bound for the other.
    anyhow = replace(DEFAULT_OPTIONS, gate=QualityGate(allow_worse=True), buckets=MEASURED)
    versions = _publish(source, asked.out / "refreshed", repository, anyhow)
    load = Load(asked.rate, min(asked.requests, AGAIN), asked.seed + 1, "again")
    stores = ("--log", places.log, "--histories", places.store)
    with serving(repository, asked.out / "serve-refreshed.log", stores) as server:
        replayed = _replay(server.address, pool, load)
    budgets_ms = {vertical.name: vertical.budget_ms for vertical in source.schema.verticals}
    summary = summarise(replayed.replies, [budgets_ms[request.vertical] for request in replayed.requests])
    return {
        **asdict(made),
        "learned": len(fresh.examples),
        "versions": versions,
        "requests": summary.requests,
        "within_budget": summary.within_budget,
        "p99_ms": summary.p99_ms,
        "share_with_history": share_with_history(places, load.name),
    }


def _show_exposures(address: str, source: Source, pool: list[Request]) -> int:
    with tqdm(total=len(pool), desc="show", unit="request", file=sys.stderr, mininterval=1.0) as bar:
        return asyncio.run(serve_exposures(address, exposures(pool), source.schema, "shown", bar.update))


def _config(source: Source, asked: argparse.Namespace) -> TrainConfig:
    times = source.examples.time_ms
    held_out_s = holdout_s(times)
    own = {"seed": asked.seed, "stream": {"holdout_s": held_out_s}, "teacher": {"model": {"embedding": EMBEDDING}}}
    config = load_config(source.name, None, own)
    # The students stop learning at the start of the chunk where the hold-out begins; it must not be the first one.
    chunk = min(config.stream.chunk, first_held_out(times, held_out_s))
    return replace(config, stream=replace(config.stream, chunk=chunk))


def _learn(source: Source, config: TrainConfig, out: Path) -> TrainingReport:
    with tqdm(total=len(source.examples), unit="row", desc="train", file=sys.stderr) as bar:

        def show(step: Progress) -> None:
            bar.set_postfix({f"NE {name}": f"{ne:.4f}" for name, ne in step.ne.items()}, refresh=False)
            bar.update(step.done - bar.n)

        return train(source, config, out, show)


def _publish(source: Source, run: Path, repository: Path, options: ExportOptions = DEFAULT_OPTIONS) -> dict[str, int]:
    """Publish a run's students; their versions by vertical, lite ones by their own names."""
    names = [f"{vertical.name}{end}" for vertical in source.schema.verticals for end in (".pt", ".lite.pt")]
    bar = tqdm(names, desc="export", unit="student", file=sys.stderr)
    made = [export(run / "students" / name, repository, options) for name in bar]
    return {each.vertical: each.version for each in made}


def _requests(source: Source, asked: argparse.Namespace) -> list[Request]:
    times = source.examples.time_ms
    rows = source.examples.slice(first_held_out(times, holdout_s(times)), len(times))
    schema = source.schema
    share = -(-asked.requests // len(schema.verticals))
    pool: list[Request] = []
    for vertical in schema.verticals:
        most = min(asked.candidates, vertical.max_candidates)
        made = held_out_requests(rows, source.ads, schema, vertical.name, candidates=most, seed=asked.seed)
        pool.extend(islice(made, share))
    return pool


def _replay(address: str, pool: list[Request], load: Load) -> Replayed:
    with tqdm(total=load.requests, desc="replay", unit="request", file=sys.stderr, mininterval=1.0) as bar:

        def answered() -> None:
            bar.update()

        return asyncio.run(replay(address, pool, load, answered))


def _example(replayed: Replayed) -> str:
    """A ranking with a positive outcome, if there is one, and the most that was really shown: most to see in it."""
    pairs = list(zip(replayed.requests, replayed.replies, strict=True))
    pairs.sort(key=lambda pair: (pair[0].outcomes.any(), len(pair[0].outcomes)), reverse=True)
    for request, reply in pairs:
        if not isinstance(reply.answer, Exception):
            return ranked_list(request, reply.answer)
    raise DemoError("no request was answered")


def _figures(report: TrainingReport, name: str, served_auc: float) -> dict[str, Any]:
    first = next(iter(report.verticals[name].values()))
    kept = {key: value for key, value in asdict(first).items() if key != "chunks" and value is not None}
    return {**kept, "served_auc": served_auc}


def without_nan(value: Any) -> Any:
    """The same with None for what is no number, since JSON has no word for that: an AUC over one class, say."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _say(text: str) -> None:
    sys.stdout.write(f"\n{text}\n")
    sys.stdout.flush()


def _whisper(text: str) -> None:
    sys.stderr.write(f"\n{text}\n")


if __name__ == "__main__":
    sys.exit(main())

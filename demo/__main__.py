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
from demo.holdout import HoldoutError, first_held_out, holdout_s
from demo.replay import Load, Replayed, replay
from demo.requests import Request, held_out_requests
from demo.server import DemoError, serving
from demo.show import latency_line, learning_table, ranked_list
from exfm.commands.train import REFUSED
from exfm.data.source import Source, open_source, resolve_data_dir
from exfm.distill.config import load_config
from exfm.distill.scoring import TrainingReport
from exfm.distill.trainer import Progress
from exfm.distill.training import train
from exporter.errors import ExportRefusedError
from exporter.export import export
from loadtest.summary import summarise
from serving.errors import ServingError


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
    report = _learn(source, asked)
    say(learning_table(report))
    repository = _publish(source, asked.out)
    pool = _requests(source, asked)
    load = Load(asked.rate, asked.requests, asked.seed)
    with serving(repository, asked.out / "serve.log") as server:
        version = server.triton_version()
        replayed = _replay(server.address, pool, load)
    budgets_ms = {vertical.name: vertical.budget_ms for vertical in source.schema.verticals}
    summary = summarise(replayed.replies, [budgets_ms[request.vertical] for request in replayed.requests])
    served = {v.name: replayed.served_auc(v.name, v.tasks[0]) for v in source.schema.verticals}
    say(_example(replayed))
    say(latency_line(summary, asked.rate, served, budgets_ms))
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
    }


def _learn(source: Source, asked: argparse.Namespace) -> TrainingReport:
    times = source.examples.time_ms
    held_out_s = holdout_s(times)
    config = load_config(source.name, None, {"seed": asked.seed, "stream": {"holdout_s": held_out_s}})
    # The students stop learning at the start of the chunk where the hold-out begins; it must not be the first one.
    chunk = min(config.stream.chunk, first_held_out(times, held_out_s))
    config = replace(config, stream=replace(config.stream, chunk=chunk))
    with tqdm(total=len(source.examples), unit="row", desc="train", file=sys.stderr) as bar:

        def show(step: Progress) -> None:
            bar.set_postfix({f"NE {name}": f"{ne:.4f}" for name, ne in step.ne.items()}, refresh=False)
            bar.update(step.done - bar.n)

        return train(source, config, asked.out / "run", show)


def _publish(source: Source, out: Path) -> Path:
    repository = out / "model_repository"
    shutil.rmtree(repository, ignore_errors=True)
    names = [f"{vertical.name}{end}" for vertical in source.schema.verticals for end in (".pt", ".lite.pt")]
    for name in tqdm(names, desc="export", unit="student", file=sys.stderr):
        export(out / "run" / "students" / name, repository)
    return repository


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

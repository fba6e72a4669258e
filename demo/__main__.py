"""The main job in one go: data in, ranked ads out. Run by `make demo`."""

import argparse
import asyncio
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from demo.replay import Load, Replayed, replay
from demo.requests import Request, held_out_requests
from demo.server import DemoError, serving
from demo.show import latency_line, learning_table, ranked_list
from exfm.data.errors import DataError
from exfm.data.source import Source, open_source, resolve_data_dir
from exfm.distill.config import load_config
from exfm.distill.scoring import TrainingReport
from exfm.distill.trainer import Progress
from exfm.distill.training import train
from exfm.features.schema import SchemaError
from exporter.errors import ExportRefusedError
from exporter.export import export
from loadtest.summary import Summary, summarise

HOLDOUT_S = 6 * 3600.0
DESCRIPTION = """\
Train a teacher and distilled students, export them, serve them with Triton, and replay held-out requests.

The published students have not learned the log's last six hours; the replayed requests are made of them: what each
user saw next, mixed with sampled ads and random bids. Latency counts from each request's scheduled send.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 done, 1 a step failed, 2 the data was refused."""
    asked = _parser().parse_args(arguments)
    torch.set_num_threads(2)
    try:
        summary = run(asked)
    except (DataError, SchemaError) as error:
        sys.stderr.write(f"demo: {error}\n")
        return 2
    except (DemoError, ExportRefusedError, OSError) as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    path = asked.out / "summary.json"
    path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    _say(json.dumps(summary) if asked.json else f"Written: {path}")
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
    summary = summarise(replayed.replies, source.schema.verticals[0].budget_ms)
    served = {v.name: replayed.served_auc(v.name, v.tasks[0]) for v in source.schema.verticals}
    say(_example(replayed))
    say(latency_line(summary, asked.rate, served))
    return {
        "data": source.name,
        "triton": {"version": version},
        "verticals": {name: _figures(report, name, served[name]) for name in report.verticals},
        "serving": _serving(summary, load, asked.candidates),
    }


def _learn(source: Source, asked: argparse.Namespace) -> TrainingReport:
    config = load_config(source.name, None, {"seed": asked.seed, "stream": {"holdout_s": HOLDOUT_S}})
    with tqdm(total=len(source.examples), unit="row", desc="train", file=sys.stderr) as bar:

        def show(step: Progress) -> None:
            bar.set_postfix({f"NE {name}": f"{ne:.4f}" for name, ne in step.ne.items()}, refresh=False)
            bar.update(step.done - bar.n)

        return train(source, config, asked.out / "run", show)


def _publish(source: Source, out: Path) -> Path:
    repository = out / "model_repository"
    shutil.rmtree(repository, ignore_errors=True)
    for vertical in tqdm(source.schema.verticals, desc="export", unit="student", file=sys.stderr):
        export(out / "run" / "students" / f"{vertical.name}.pt", repository)
    return repository


def _requests(source: Source, asked: argparse.Namespace) -> list[Request]:
    times = source.examples.time_ms
    rows = source.examples.take(times >= times[-1] - int(HOLDOUT_S * 1e3))
    names = [vertical.name for vertical in source.schema.verticals]
    share = -(-asked.requests // len(names))
    pool: list[Request] = []
    for name in names:
        made = held_out_requests(rows, source.ads, source.schema, name, candidates=asked.candidates, seed=asked.seed)
        pool.extend(islice(made, share))
    return pool


def _replay(address: str, pool: list[Request], load: Load) -> Replayed:
    with tqdm(total=load.requests, desc="replay", unit="request", file=sys.stderr, mininterval=1.0) as bar:

        def answered() -> None:
            bar.update()

        return asyncio.run(replay(address, pool, load, answered))


def _example(replayed: Replayed) -> str:
    """The ranking with the most that was really shown, since there is most to see in it."""
    answered = [pair for pair in zip(replayed.requests, replayed.replies, strict=True) if pair[0].outcomes.any()]
    for request, reply in sorted(answered, key=lambda pair: -len(pair[0].outcomes)):
        if not isinstance(reply.answer, Exception):
            return ranked_list(request, reply.answer)
    raise DemoError("no request was answered")


def _figures(report: TrainingReport, name: str, served_auc: float) -> dict[str, Any]:
    first = next(iter(report.verticals[name].values()))
    kept = {key: value for key, value in asdict(first).items() if key != "chunks" and value is not None}
    return {**kept, "served_auc": served_auc}


def _serving(summary: Summary, load: Load, candidates: int) -> dict[str, Any]:
    return {"candidates": candidates, "rate": load.rate_rps, **asdict(summary)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m demo", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", metavar="DIR", help="folder with a log (default: $EXFM_DATA_DIR, else the simulator)")
    add("--out", type=Path, default=Path("build/demo"), metavar="DIR", help="where everything goes (build/demo)")
    add("--rate", type=float, default=50.0, metavar="RPS", help="requests per second (50)")
    add("--requests", type=int, default=2500, metavar="N", help="requests in the replay (2500)")
    add("--candidates", type=int, default=200, metavar="N", help="ads per request (200)")
    add("--seed", type=int, default=0, help="of training, sampling and arrivals (0)")
    add("--json", action="store_true", help="print the summary as JSON on stdout, everything else on stderr")
    return parser


def _say(text: str) -> None:
    sys.stdout.write(f"\n{text}\n")
    sys.stdout.flush()


def _whisper(text: str) -> None:
    sys.stderr.write(f"\n{text}\n")


if __name__ == "__main__":
    sys.exit(main())

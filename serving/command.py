"""`exfm-serve`: ranks ads with the models of a repository."""

import argparse
import asyncio
import gc
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from serving.console import say, tell
from serving.embedded.errors import EnvironmentUnusableError, TritonStartError
from serving.errors import RepositoryError, StartError
from serving.repository import load_catalog
from serving.serve import ServeOptions, serve
from serving.worker import WorkerOptions

EPILOG = """
examples:
  exfm-serve --model-repository model_repository
      start a Triton server of its own and rank with it on 127.0.0.1:8500
  exfm-serve --model-repository model_repository --triton triton.internal:8001 --listen 0.0.0.0:8500
      rank with a Triton server that runs elsewhere and has the same models loaded

Every answer is made inside min(the caller's deadline, the vertical's budget). When the model's scores are not there in
time, the answer comes from the vertical's prior and says so. The gRPC health service says SERVING once each model has
scored a known request right, inside its budget. SIGTERM and SIGINT drain: no new requests, those in flight end.

exit codes: 0 stopped as asked, 1 failed to start or to become ready, 2 bad usage or bad model repository
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        catalog = load_catalog(options.model_repository)
        # What is alive by now stays; the collector needn't look at it during a request.
        gc.collect()
        gc.freeze()
        asyncio.run(
            serve(catalog, _serve_options(options), lambda ready: tell(ready.text(), ready.plain(), options.json))
        )
    except RepositoryError as error:
        say(f"exfm-serve: {error}")
        return 2
    except (StartError, EnvironmentUnusableError, TritonStartError) as error:
        say(f"exfm-serve: {error}")
        return 1
    return 0


def _serve_options(options: argparse.Namespace) -> ServeOptions:
    worker = WorkerOptions(
        listen=options.listen, reply_reserve_s=options.reply_reserve_ms / 1e3, drain_s=options.drain_s
    )
    return ServeOptions(
        repository=options.model_repository,
        worker=worker,
        triton=options.triton,
        triton_log=options.triton_log,
        ready_s=options.ready_within_s,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "exfm-serve",
        description="Rank ads over gRPC (exfm.ranking.v1.RankingService) with the models that exfm-export published.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model-repository", type=Path, required=True, metavar="DIR", help="what exfm-export writes")
    add("--triton", default="", metavar="HOST:PORT", help="gRPC address of a Triton server; without it, one is started")
    add("--listen", default="127.0.0.1:8500", metavar="HOST:PORT", help="where to serve; port 0 takes a free one")
    add("--reply-reserve-ms", type=_positive, default=2.0, metavar="MS", help="least time kept for the reply (2)")
    add("--ready-within-s", type=_positive, default=60.0, metavar="S", help="give up if not ready by then (60)")
    add("--drain-s", type=_positive, default=5.0, metavar="S", help="requests in flight get this long to end (5)")
    add("--triton-log", type=Path, metavar="FILE", help="where the started Triton's output goes (a temporary file)")
    add("--log-level", default="info", choices=("debug", "info", "warning", "error"), help="of stderr (info)")
    add("--json", action="store_true", help="say readiness as one line of JSON on stdout")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value

"""`exfm-serve`: ranks ads with the models of a repository."""

import serving.rpc.transport  # noqa: F401  gRPC reads it when it is imported

# isort: split
import argparse
import asyncio
import gc
import logging
import sys
from collections.abc import Callable, Coroutine, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from serving.admission.choose import DEFAULT_LAW, LAWS
from serving.catalog import Catalog
from serving.console import say, tell
from serving.embedded.errors import EnvironmentUnusableError, TritonStartError
from serving.errors import RepositoryError, StartError, UnknownVerticalError
from serving.features.store import opener
from serving.ladder.choice import FEWEST
from serving.ladder.tier import DEFAULT_TIERS, Tier
from serving.processes.parent import ParentOptions, serve_with_workers
from serving.repository import load_catalog
from serving.serve import Ready, ServeOptions, serve
from serving.worker import WorkerOptions

EPILOG = """
examples:
  exfm-serve --model-repository model_repository
      start a Triton server of its own and rank with it on 127.0.0.1:8500
  exfm-serve --model-repository model_repository --triton triton.internal:8001 --listen 0.0.0.0:8500
      rank with a Triton server that runs elsewhere and has the same models loaded
  exfm-serve --model-repository model_repository --triton gpu1:8001 --triton gpu2:8001
      spread requests over two of them, and do without one that hangs or dies

  exfm-serve --model-repository model_repository --workers 4 --ops 127.0.0.1:9500
      four processes on one port, and /live, /ready, /metrics and /state beside them
  exfm-serve --model-repository model_repository --triton triton.internal:8001 --parallelism 8 --share 1/3
      be one of three servers that rank with the same Triton, which runs eight calls at once
  exfm-serve --model-repository model_repository --log sqlite:build/async/log.sqlite --histories lmdb:build/async/store
      log what is shown and take outcomes for exfm-annotate, and read the histories that it writes

Every answer is made inside min(the caller's deadline, the vertical's budget). When the model's scores are not there in
time, the answer comes from the vertical's prior and says so. The gRPC health service says SERVING once each model has
scored a known request right, inside its budget. SIGTERM and SIGINT drain: callers are sent elsewhere, requests
in flight end. Workers that crash are started again.

exit codes: 0 stopped as asked, 1 failed to start or to become ready, 2 bad usage or bad model repository
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        catalog = load_catalog(options.model_repository, options.trusted_keys)
        # What is alive by now stays; the collector needn't look at it during a request.
        gc.collect()
        gc.freeze()
        asyncio.run(_serve(catalog, options))
    except (RepositoryError, UnknownVerticalError) as error:
        say(f"exfm-serve: {error}")
        return 2
    except (StartError, EnvironmentUnusableError, TritonStartError) as error:
        say(f"exfm-serve: {error}")
        return 1
    return 0


def _serve(catalog: Catalog, options: argparse.Namespace) -> Coroutine[Any, Any, None]:
    def announce(ready: Ready) -> None:
        tell(ready.text(), ready.plain(), options.json)

    chosen = _serve_options(options, catalog)
    if options.workers == 1 and not options.ops:
        return serve(catalog, chosen, announce)
    return serve_with_workers(catalog, chosen, ParentOptions(options.workers, options.ops, options.log_level), announce)


def _serve_options(options: argparse.Namespace, catalog: Catalog) -> ServeOptions:
    worker = WorkerOptions(
        listen=options.listen,
        reply_reserve_s=options.reply_reserve_ms / 1e3,
        drain_s=options.drain_s,
        tiers=_tiers(options.tiers, catalog),
        fewest=options.min_candidates,
        law=options.law,
        parallelism=options.parallelism,
        share=options.share,
        repository=options.model_repository,
        log=options.log or "",
        shown=options.shown,
        histories=options.histories or "",
    )
    return ServeOptions(
        repository=options.model_repository,
        worker=worker,
        tritons=tuple(dict.fromkeys(address for addresses in options.triton for address in addresses)),
        triton_log=options.triton_log,
        ready_s=options.ready_within_s,
        trusted_keys=options.trusted_keys,
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
    keys = "public keys (*.pem) whose versions are taken, instead of the repository's own trusted_keys/"
    add("--trusted-keys", type=Path, metavar="DIR", help=keys)
    add(
        "--triton",
        action="append",
        default=[],
        type=_addresses,
        metavar="HOST:PORT,...",
        help="gRPC address of a Triton server, or of several; without it, one is started",
    )
    add("--listen", default="127.0.0.1:8500", metavar="HOST:PORT", help="where to serve; port 0 takes a free one")
    add("--workers", type=_count, default=1, metavar="N", help="worker processes that share the port (1)")
    add("--ops", default="", metavar="HOST:PORT", help="serve /live, /ready, /metrics and /state there, over HTTP")
    add("--reply-reserve-ms", type=_positive, default=4.0, metavar="MS", help="least time kept for the reply (4)")
    add("--ready-within-s", type=_positive, default=60.0, metavar="S", help="give up if not ready by then (60)")
    add("--drain-s", type=_positive, default=5.0, metavar="S", help="requests in flight get this long to end (5)")
    add(
        "--tiers",
        action="append",
        default=[],
        type=_tiers_of,
        metavar="[VERTICAL=]TIER,...",
        help="which tiers answer, for one vertical or for all others; prior always does, lite where it is published "
        "(full,trimmed,lite,prior)",
    )
    add("--min-candidates", type=_count, default=FEWEST, metavar="K", help="fewest that trimmed scores (16)")
    add("--law", default=DEFAULT_LAW, choices=LAWS, help=f"what moves the limit of work in flight ({DEFAULT_LAW})")
    add(
        "--parallelism",
        type=_positive,
        default=0.0,
        metavar="X",
        help="calls that Triton really runs at once (what models allow and this machine has cores for; say it for a "
        "Triton elsewhere)",
    )
    add("--share", type=_share, default=1.0, metavar="1/N", help="of each Triton, as one of N such servers (1)")
    _add_learning(parser)
    add("--triton-log", type=Path, metavar="FILE", help="where the started Triton's output goes (a temporary file)")
    add("--log-level", default="info", choices=("debug", "info", "warning", "error"), help="of stderr (info)")
    add("--json", action="store_true", help="say readiness as one line of JSON on stdout")
    return parser


def _add_learning(parser: argparse.ArgumentParser) -> None:
    """What the server keeps for exfm-annotate, and reads of what that writes."""
    add = parser.add_argument
    add(
        "--log",
        type=_log,
        metavar="URL",
        help="event log of impressions and outcomes: sqlite:FILE, nats://... (none)",
    )
    add("--shown", type=_count, default=1, metavar="K", help="how many of an answer's best ads are shown (1)")
    store = "online store that exfm-annotate writes, for students that read histories: lmdb:DIR or redis://... (none)"
    add("--histories", type=_store, metavar="URL", help=store)


def _tiers_of(text: str) -> tuple[str, tuple[Tier, ...]]:
    vertical, _, names = text.rpartition("=")
    offered = {tier.name.lower(): tier for tier in DEFAULT_TIERS}
    if unknown := [name for name in names.split(",") if name not in offered]:
        raise argparse.ArgumentTypeError(f"no tier {unknown[0]!r}; there are {', '.join(offered)}")
    return vertical, tuple(offered[name] for name in names.split(","))


def _tiers(given: Sequence[tuple[str, tuple[Tier, ...]]], catalog: Catalog) -> dict[str, tuple[Tier, ...]]:
    """By vertical; one that isn't served is an `UnknownVerticalError`."""
    own = dict(given)
    for name in own.keys() - {""}:
        catalog.find(name)
    return {name: own.get(name, own.get("", DEFAULT_TIERS)) for name in catalog}


def _log(text: str) -> str:
    # Only where it is asked for: its libraries are of no use to a server without a log.
    from exfm.events.backends import check_log  # noqa: PLC0415

    return _sound(text, check_log)


def _store(text: str) -> str:
    return _sound(text, opener)


def _sound(url: str, check: Callable[[str], object]) -> str:
    try:
        check(url)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return url


def _addresses(text: str) -> tuple[str, ...]:
    addresses = tuple(part.strip() for part in text.split(","))
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise argparse.ArgumentTypeError(f"{address!r} is not HOST:PORT")
    return addresses


def _share(text: str) -> float:
    try:
        share = float(Fraction(text))
    except (ValueError, ArithmeticError):
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share such as 1/3 or 0.5")
    return share


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value

"""`python -m bench.batching`: who forms the batch, Triton's dynamic batcher or the frontend, by goodput in overload."""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bench.batching.contest import NAMES, PATTERN, Contest, Entrant, entrant, hold, processors
from bench.batching.figures import best, ratios, summaries
from bench.batching.report import table
from bench.batching.variant import Forms, write_both
from bench.overload.messages import make_pools
from bench.overload.plant import BenchError
from bench.overload.repository import find_or_make
from loadtest.commands.arguments import count, positive
from serving.catalog import Vertical
from serving.embedded.environment import ensure
from serving.embedded.errors import EnvironmentUnusableError, TritonStartError
from serving.embedded.process import EmbeddedTriton
from serving.errors import RepositoryError, UnknownVerticalError
from serving.features.histories import without_history
from serving.query import RankQuery
from serving.repository import load_catalog
from serving.rpc.codec import decode, parse

EACH = 24
"""Different requests."""
VARIANTS = ("triton", "triton<=8", "triton<=12", "edf-1", "edf-2", "edf-3", "edf-2<=8", "edf-3<=12")
DESCRIPTION = """\
Where should a batch be formed? The same student stands twice in one embedded Triton, in the two forms that exfm-export
publishes: --batching triton, where Triton's dynamic batcher joins requests (ragged inputs, a queue with a timer), and
--batching frontend, which takes a whole jagged batch in one call, formed by the product's own batcher. An open-loop
Poisson client in this process drives each variant in turn, round by round:

  triton      one plain call per request, with the queue's timer; the client gives up at the deadline, without
              cancelling the call
  triton<=N   the same, with at most N requests in flight; what finds no room falls back at once
  edf-K       the frontend's own queue, earliest deadline first: K calls outstanding, each with up to --most requests;
              a request falls back at once when its predicted finish lies past its deadline
  edf-KxM     the same with up to M requests in a call
  edf-K<=N    the same with at most N requests in flight, as with triton<=N: the batch is formed elsewhere, and no more

The base rate is 0.7 of what a closed loop of six callers gets by single requests, measured anew in each round.
Deadlines run from the scheduled instant. No ladder, no gate, no server of ours is in the way. Triton and the client
share this machine, so what the client saves, Triton gets. Compare variants by the ratios, taken within a round.
"""
EPILOG = """
examples:
  python -m bench.batching --seconds 5 --candidates 500 --multiples 1 2 4 --repeats 3
  python -m bench.batching --variants 'triton<=8' edf-2 edf-2x1 --budget-shares 0.5 1

exit codes: 0 measured, 1 could not be measured, 2 bad usage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; the exit code."""
    asked = _parser().parse_args(arguments)
    path = asked.out / "batching.json"
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
        result = run(asked)
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    except (RepositoryError, UnknownVerticalError, FileExistsError, PermissionError) as error:
        sys.stderr.write(f"bench-batching: {error}\n")
        return 2
    except (BenchError, TritonStartError, EnvironmentUnusableError, OSError) as error:
        sys.stderr.write(f"bench-batching: {error}\n")
        return 1
    sys.stdout.write(json.dumps(result) + "\n" if asked.json else f"\n{table(result)}\n\nWritten: {path}\n")
    return 0


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """Everything that `batching.json` holds."""
    published = find_or_make(asked.model_repository, asked.out)
    catalog = load_catalog(published)
    vertical = catalog.find(asked.vertical or next(iter(catalog)))
    candidates = min(asked.candidates, vertical.max_candidates)
    messages = make_pools(vertical, [candidates], EACH, asked.seed)[candidates]
    queries = [without_history(decode(parse(message), vertical)) for message in messages]
    entrants = [entrant(name, asked.most) for name in asked.variants]
    with tempfile.TemporaryDirectory(prefix="exfm-batching-") as folder:
        forms = write_both(published, vertical, Path(folder))
        log = asked.out / "batching-triton.log"
        with EmbeddedTriton(ensure(), Path(folder), (forms.triton.name, forms.frontend.name), log) as triton:
            measured = asyncio.run(_measure(asked, triton, forms, queries, entrants))
            return _conditions(asked, vertical, candidates, triton.version) | measured


async def _measure(
    asked: argparse.Namespace,
    triton: EmbeddedTriton,
    forms: Forms,
    queries: Sequence[RankQuery],
    entrants: Sequence[Entrant],
) -> dict[str, Any]:
    contest = Contest(triton, forms, queries, asked.seed)
    try:
        await contest.check()
        total = asked.repeats * len(asked.multiples) * len(entrants)
        with tqdm(total=total, desc="batching", unit="run", file=sys.stderr) as bar:
            samples, bases_rps = await hold(
                contest,
                entrants,
                asked.multiples,
                rounds=asked.repeats,
                seconds=asked.seconds,
                shares=asked.budget_shares,
                seed=asked.seed,
                base_rps=asked.base_rps,
                done=bar.update,
            )
    finally:
        await contest.close()
    plain = [who.name for who in entrants if not who.jagged] or [entrants[0].name]
    return {
        "base_rps": bases_rps,
        "summaries": summaries(samples),
        "ratios": ratios(samples, best(samples, plain)),
        "samples": [asdict(one) for one in samples],
    }


def _conditions(asked: argparse.Namespace, vertical: Vertical, candidates: int, version: str) -> dict[str, Any]:
    return {
        "vertical": vertical.name,
        "budget_ms": vertical.budget_s * 1e3,
        "budget_shares": asked.budget_shares,
        "candidates": candidates,
        "seconds": asked.seconds,
        "most": asked.most,
        "seed": asked.seed,
        "processors": processors(),
        "triton": version,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench.batching",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seconds", type=positive, default=5.0, metavar="S", help="of each run (5)")
    add("--candidates", type=count, default=500, metavar="N", help="ads per request (500)")
    add("--multiples", type=positive, nargs="+", default=[1.0, 2.0, 4.0], metavar="X", help="of the base rate (1 2 4)")
    add("--repeats", type=count, default=3, metavar="N", help="rounds over all variants and multiples (3)")
    add("--variants", type=_variant, nargs="+", default=VARIANTS, metavar="NAME", help=f"({' '.join(VARIANTS)})")
    add("--most", type=count, default=8, metavar="N", help="requests in one call of the frontend's batcher (8)")
    add("--budget-shares", type=positive, nargs="+", default=[1.0], metavar="X", help="of the vertical's budget (1)")
    add("--base-rps", type=positive, metavar="RPS", help="take this as the base rate instead of measuring it")
    add("--model-repository", type=Path, metavar="DIR", help="published models (the demo's, or some of its own)")
    add("--vertical", default="", metavar="NAME", help="which of its verticals (the first)")
    add("--out", type=Path, default=Path("build/bench"), metavar="DIR", help="where it goes (build/bench)")
    add("--seed", type=int, default=0, help="of requests and arrivals (0)")
    add("--json", action="store_true", help="print the result as JSON on stdout, everything else on stderr")
    return parser


def _variant(text: str) -> str:
    if PATTERN.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {NAMES}")
    return text


if __name__ == "__main__":
    sys.exit(main())

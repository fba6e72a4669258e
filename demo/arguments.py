"""The demo's command line."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

DESCRIPTION = """\
Train a teacher and distilled students, export them, serve them with Triton, and replay held-out requests.

The published students have not learned the end of the log, its last six hours or a quarter of a shorter log. The
replayed requests are made of it: what each user saw next, mixed with sampled ads. Bids are the log's own, or random
where it has none. Latency counts from each request's scheduled send.

Then the loop is closed once: what users really saw is served again, all of it shown, and what they did is told to the
server. Joined and annotated by the teacher it becomes examples and histories; refreshed students learn the log's later
part and these examples, are published as the next version, and asked once more.
"""
EPILOG = """\
examples:
  python -m demo                                   the simulator, into build/demo
  EXFM_DATA_DIR=/data/kuairand python -m demo      real exposures
  python -m demo --rate 100 --candidates 500       more load: 100 requests per second, 500 ads each
  python -m demo --json > summary.json             the summary alone on standard output

writes:
  OUT/summary.json  OUT/run (training)  OUT/refreshed  OUT/model_repository  OUT/serve*.log  OUT/triton.log
  OUT/async: the event log, the join, the example stream and the online store

exit codes: 0 done; 1 a step failed; 2 bad usage, or the data or the settings were refused
"""


def parser() -> argparse.ArgumentParser:
    """What `python -m demo` understands."""
    made = argparse.ArgumentParser(
        "python -m demo",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--data", metavar="DIR", help="folder with a log (default: $EXFM_DATA_DIR, else the simulator)")
    add("--out", type=Path, default=Path("build/demo"), metavar="DIR", help="where everything goes (build/demo)")
    add("--rate", type=_rate, default=50.0, metavar="RPS", help="requests per second (50)")
    add("--requests", type=_at_least(1), default=2500, metavar="N", help="requests in the replay (2500)")
    add(
        "--candidates",
        type=_at_least(1),
        default=200,
        metavar="N",
        help="ads per request, at most what the vertical takes (200)",
    )
    add("--seed", type=_at_least(0), default=0, metavar="N", help="of training, sampling and arrivals (0)")
    add("--json", action="store_true", help="print the summary as JSON on stdout, everything else on stderr")
    return made


def _at_least(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from error
        if value < least:
            raise argparse.ArgumentTypeError(f"must be >= {least}, got {value}")
        return value

    return read


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from error
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be positive and finite, got {text}")
    return value

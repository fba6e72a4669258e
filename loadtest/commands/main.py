"""`exfm-loadtest`: load tests that count from the scheduled instant, check every answer, and end with a verdict."""

import argparse
import sys
from collections.abc import Sequence
from types import ModuleType

from exfm.data.errors import DataError
from exfm.features.schema import SchemaError
from loadtest.arrivals.schedule import NothingDueError
from loadtest.commands import capacity, compare, overload, peers, referee, replay, run, selftest, soak
from loadtest.commands.compare import ComparisonError
from loadtest.commands.output import EventsError
from loadtest.commands.soak import WatchedError
from loadtest.driving.rank_target import NotDescribedError
from loadtest.verdict.judge import INTERRUPTED, USAGE
from loadtest.verdict.objectives import ObjectivesError
from loadtest.workload.asked import WorkloadError
from loadtest.workload.recording import RecordingError
from loadtest.workload.sizes import SizesError

COMMANDS: dict[str, ModuleType] = {
    "run": run,
    "capacity": capacity,
    "overload": overload,
    "soak": soak,
    "replay": replay,
    "compare": compare,
    "selftest": selftest,
    "peers": peers,
    "referee": referee,
}
"""By name: a module with HELP, EXAMPLES, `add(parser)` and `main(asked)`, which returns the exit code."""
REFUSED = (
    ComparisonError,
    DataError,
    EventsError,
    NotDescribedError,
    NothingDueError,
    ObjectivesError,
    RecordingError,
    SchemaError,
    SizesError,
    WatchedError,
    WorkloadError,
    OSError,
)
DESCRIPTION = """\
Put a ranking server under load and say whether it kept its objectives.

Requests are sent at instants that are fixed before the run, and latency counts from those instants: a server that
stalls doesn't slow the load down, and can't hide the stall. Every answer is checked for completeness, order, finite
scores, tier and ledger. How late the generator itself was, and how much of its core it used, is measured; a run in
which it was the bottleneck is declared invalid.
"""
EPILOG = """
exit codes: 0 every objective met, 1 one was not, 2 bad usage or input (also: nobody answers at --target),
3 the run is invalid and says nothing, 130 interrupted

`exfm-loadtest COMMAND --help` tells more. For locust: locust -f loadtest/locustfile.py --host HOST:PORT
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        return int(COMMANDS[asked.command].main(asked))
    except REFUSED as error:
        sys.stderr.write(f"exfm-loadtest {asked.command}: {error}\n")
        return USAGE
    except KeyboardInterrupt:
        sys.stderr.write(f"exfm-loadtest {asked.command}: interrupted, nothing is judged\n")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "exfm-loadtest",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        added = commands.add_parser(
            name,
            help=module.HELP,
            description=module.HELP[0].upper() + module.HELP[1:] + ".",
            epilog=module.EXAMPLES + EPILOG.rpartition("\n\n")[0],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add(added)
    return parser


if __name__ == "__main__":
    sys.exit(main())

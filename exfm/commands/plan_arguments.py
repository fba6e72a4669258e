"""The command line of `exfm-annotate plan`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Say whether a cluster can annotate a traffic with a teacher: memory and rows per device, examples per second, lag and
cost, the arithmetic line by line. The teacher is a checkpoint, whose weights are not read, or is described; a device's
speed is measured here, given, or follows from its rates. Where rows must be spread over the devices, the speed of the
link between them is needed too. Of a table on disk --measure also reads rows, from memory and from the disk, for which
it takes the table's files out of the page cache: what memory is left beside all else decides how many rows must come
from the disk. torchrec's planner is asked too, where it is installed and there is something to spread. Prices are in
whatever currency --cost is.
"""
EPILOG = """\
examples:
  exfm-annotate plan --measure build/run/teacher.pt --traffic 5000 --memory-gb 8 --json      this machine
  exfm-annotate plan --measure build/run/teacher.pt --traffic 200 --memory-gb 2      with a table on disk: 2 GB for it
  exfm-annotate plan --teacher build/run/teacher.pt --speed 40000 --devices 4 --memory-gb 80 --cost 2.5 --traffic 1e5
  exfm-annotate plan --rows 7812500000 --dimension 128 --features 100 --flops 2e7 --weight-bytes 2 --kind cuda \\
    --devices 20 --memory-gb 141 --flops-per-s 1e14 --gather-gb-per-s 500 --link-gb-per-s 50 --cost 3 --traffic 2e5

exit codes: 0 it fits and keeps up, 1 it doesn't, 2 bad usage or input
"""


def add_plan(commands: Any, positive: Callable[[str], float], count: Callable[[str], int]) -> None:
    """Add the subcommand; `positive` and `count` check its numbers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "plan",
        help="say what a teacher, a cluster and a traffic come to",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_teacher(parser.add_argument_group("the teacher"), positive, count)
    _add_cluster(parser.add_argument_group("the cluster"), positive, count)
    add = parser.add_argument_group("the traffic").add_argument
    add("--traffic", type=positive, required=True, metavar="R", help="impressions per second")
    add("--batch", type=count, default=8192, metavar="N", help="examples per forward pass (8192)")
    add("--linger-s", type=positive, default=5.0, metavar="S", help="how long an example waits for its batch (5)")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def _add_teacher(group: Any, positive: Callable[[str], float], count: Callable[[str], int]) -> None:
    add = group.add_argument
    add(
        "--measure",
        type=Path,
        metavar="PATH",
        help="teacher.pt or teacher.sharded: its size, and its speed here, out of what its parts take",
    )
    add("--teacher", type=Path, metavar="PATH", help="teacher.pt or teacher.sharded: its size alone")
    add("--rows", type=count, metavar="N", help="of all tables, if there is no checkpoint")
    add("--dimension", type=count, metavar="D", help="of an embedding")
    add("--tasks", type=count, default=1, metavar="T", help="first-order weights of a row (1)")
    add("--features", type=count, metavar="F", help="rows that an example looks up")
    add("--flops", type=positive, metavar="X", help="of an example's forward pass, lookup not counted")
    add("--dense-parameters", type=count, default=1, metavar="P", help="beside the tables (1)")
    add("--weight-bytes", type=int, choices=(4, 2, 1), help="of a table's weight (a checkpoint's own, else 4)")


def _add_cluster(group: Any, positive: Callable[[str], float], count: Callable[[str], int]) -> None:
    add = group.add_argument
    add("--devices", type=count, default=1, metavar="N", help="how many (1)")
    add("--memory-gb", type=positive, required=True, metavar="M", help="of each, in 10^9 bytes; 15 %% stay free")
    add("--kind", choices=("cpu", "cuda"), default="cpu", help="of device, for torchrec's planner (cpu)")
    add("--threads", type=count, default=1, metavar="N", help="of a device that is this machine, with --measure (1)")
    add("--speed", type=positive, metavar="R", help="examples per second of each alone, or all three of")
    add("--flops-per-s", type=positive, metavar="X", help="that it reaches in products of matrices")
    add("--gather-gb-per-s", type=positive, metavar="B", help="that it reads of scattered rows")
    add("--link-gb-per-s", type=positive, metavar="B", help="to the other devices; also where rows must be spread")
    add("--feed", type=positive, metavar="R", help="examples per second that the process beside them reads and writes")
    add("--cost", type=float, default=0.0, metavar="C", help="of a device's hour (0)")

"""Options that several commands share, and what becomes of them."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exfm.data.source import open_source, resolve_data_dir
from exfm.features.schema import Schema
from loadtest.arrivals.shapes import SHAPES
from loadtest.commands.arguments import count, positive, share
from loadtest.driving.calls import TARGETS
from loadtest.driving.measure import Aim
from loadtest.driving.rank_target import describe
from loadtest.verdict.judge import CPU_SHARE, SENT_LATE_SHARE, Limits
from loadtest.verdict.objectives import Objective, load, usual
from loadtest.workload.asked import Workload
from loadtest.workload.making import from_schema, from_source, schema_of
from loadtest.workload.sizes import sizes_of
from serving.rpc.pb import ranking_pb2 as pb

EVENTS = 'what happened when: {"at_s": 3.5, "label": "reload"} or {"unix_s": ...} a line, also written meanwhile'


@dataclass(frozen=True)
class Setup:
    """A server that has been asked what it expects, and what to do to it.

    Attributes:
        objectives: from the file, or the usual ones for the vertical's budget.
        facts: conditions of the run that the server and the options tell, for JSON.
    """

    aim: Aim
    objectives: tuple[Objective, ...]
    limits: Limits
    facts: dict[str, Any]


def add_target(parser: argparse.ArgumentParser, *, vertical: bool = True) -> None:
    """Whom to drive."""
    add = parser.add_argument
    add("--target", default="127.0.0.1:8500", metavar="HOST:PORT", help="the ranking server (127.0.0.1:8500)")
    if vertical:
        add("--vertical", default="", metavar="NAME", help="which of its verticals (the first by name)")
    add("--connections", type=count, default=4, metavar="N", help="to the server (4)")
    add("--call", choices=TARGETS, default="rank", help="a call per request, or a stream per connection (rank)")
    add("--timeout-ms", type=positive, metavar="MS", help="deadline of each request (the vertical's budget)")


def add_workload(parser: argparse.ArgumentParser) -> None:
    """What to send."""
    add = parser.add_argument
    add("--candidates", default="200", metavar="N", help="ads per request: a number, dlrm-v2 or dlrm-v3 (200)")
    add("--schema", type=Path, metavar="FILE", help="random requests of this schema (what the server describes)")
    add("--data", metavar="DIR", help="requests of this log's own rows and ads: a schema file with logs, or KuaiRand")
    add("--seed", type=int, default=0, help="of requests and arrivals (0)")


def add_rate(parser: argparse.ArgumentParser, seconds: float) -> None:
    """How much of it."""
    add = parser.add_argument
    add("--rate", type=positive, required=True, metavar="RPS", help="requests per second; shapes move around it")
    add("--seconds", type=positive, default=seconds, metavar="S", help=f"length ({seconds:g})")
    add("--shape", choices=SHAPES, default="steady", help="how the rate moves (steady)")


def add_verdict(parser: argparse.ArgumentParser) -> None:
    """What to hold it against."""
    add = parser.add_argument
    add("--objectives", type=Path, metavar="FILE", help="TOML file (p99 in the budget, 1%% late, 99%% full, no error)")
    add("--max-sent-late", type=share, default=SENT_LATE_SHARE, metavar="SHARE", help="else invalid (0.01)")
    add("--max-generator-cpu", type=share, default=CPU_SHARE, metavar="SHARE", help="in any second, else invalid (0.9)")


def add_output(parser: argparse.ArgumentParser, name: str) -> None:
    """Where it goes, and what is overlaid."""
    add = parser.add_argument
    add("--out", type=Path, default=Path("build/loadtest"), metavar="DIR", help="for the files (build/loadtest)")
    add("--events", type=Path, metavar="FILE", help=EVENTS)
    add("--json", action="store_true", help="print the result as JSON on stdout")
    parser.set_defaults(name=name)


def set_up(asked: argparse.Namespace) -> Setup:
    """Ask the server what the vertical expects and make the requests; every error of the input is raised as its own."""
    described = describe(asked.target, asked.vertical)
    return setup_of(asked, described, _workload(asked, described))


def setup_of(asked: argparse.Namespace, described: pb.DescribeVerticalResponse, workload: Workload) -> Setup:
    """The setup for requests that exist already."""
    budget_s = described.budget_ms / 1e3
    timeout_s = asked.timeout_ms / 1e3 if asked.timeout_ms else budget_s
    return Setup(
        aim=Aim(asked.target, workload.held_to(described), budget_s, timeout_s, asked.connections, asked.call),
        objectives=load(asked.objectives) if asked.objectives else usual(budget_s),
        limits=Limits(asked.max_sent_late, asked.max_generator_cpu),
        facts={
            "target": asked.target,
            "vertical": described.vertical,
            "model_version": described.model.version,
            "schema_hash": described.schema_hash,
            "tiers_offered": [pb.Tier.Name(tier).removeprefix("TIER_").lower() for tier in described.tiers],
            "budget_ms": described.budget_ms,
            "timeout_ms": timeout_s * 1e3,
            "connections": asked.connections,
            "call": asked.call,
            "requests_of": workload.origin,
            "different_requests": len(workload),
            "workload_sha256": workload.digest,
        },
    )


def _workload(asked: argparse.Namespace, described: pb.DescribeVerticalResponse) -> Workload:
    schema, sizes = schema_of(described), sizes_of(asked.candidates)
    if asked.data:
        source = open_source(resolve_data_dir(asked.data, os.environ), asked.seed)
        return from_source(source, schema, described.vertical, sizes, seed=asked.seed)
    chosen = Schema.load(asked.schema) if asked.schema else schema
    return from_schema(chosen, described.vertical, sizes, seed=asked.seed)

"""Open-loop load with locust: `locust -f loadtest/locustfile.py --host 127.0.0.1:8500`.

A locust user is one stream of Poisson arrivals. All streams together have the rate that the shape says, however many
there are and on whichever process or machine they run; each arrival gets a greenlet of its own and is timed from its
scheduled instant, so waiting anywhere counts. Every answer is checked; a wrong one is a failure, however fast.

The exit code is the verdict's: 0 every objective met, 1 not, 2 bad usage, 3 the generator was the bottleneck.
"""

import logging
from pathlib import Path
from typing import Any

from grpc.experimental import gevent as grpc_gevent
from locust import LoadTestShape, User, constant, task
from locust import events as locust_events
from locust.runners import MasterRunner, WorkerRunner

from exfm.features.schema import SchemaError
from loadtest.checking.outcomes import BAD
from loadtest.driving.rank_target import NotDescribedError
from loadtest.driving.target import Reply
from loadtest.swarm.engine import LEAD_S, Engine, make_engine
from loadtest.swarm.options import add_options
from loadtest.swarm.result import lines_of, objectives_of, verdict_of, write
from loadtest.verdict.judge import USAGE
from loadtest.verdict.objectives import ObjectivesError
from loadtest.verdict.tally import Tally
from loadtest.workload.asked import WorkloadError
from loadtest.workload.sizes import SizesError

REFUSED = (NotDescribedError, ObjectivesError, SchemaError, SizesError, WorkloadError, ValueError, OSError)
STREAMS = 4
"""Per process: each has a connection of its own."""
GRACE_S, WORKERS_GRACE_S = 0.5, 1.5
"""After the last deadline; worker processes start later than their master."""

log = logging.getLogger("exfm")


class State:
    """This process's part in the run that is under way."""

    engine: Engine | None = None
    total: Tally | None = None
    refused: bool = False
    """The input of this run was; the shape ends it, and the web page stays for another try."""


class ChosenShape(LoadTestShape):
    """Holds the streams for as long as the shape lasts; the rate is the streams' own affair."""

    def tick(self) -> tuple[int, float] | None:
        """As many users as there are streams, then the end."""
        assert self.runner is not None
        options: Any = self.runner.environment.parsed_options
        if State.refused:
            State.refused = False
            return None
        run_s: float = self.get_run_time()  # type: ignore[no-untyped-call]
        master = self.runner if isinstance(self.runner, MasterRunner) else None
        if run_s > LEAD_S + options.seconds + _timeout_s() + (WORKERS_GRACE_S if master else GRACE_S):
            return None
        workers = master.worker_count if master else 1
        # The workers get it with the rest of the options.
        options.streams = STREAMS * max(workers, 1)
        return options.streams, options.streams


class Stream(User):
    """One stream of arrivals."""

    wait_time = constant(3600)

    @task
    def arrive(self) -> None:
        """All of its arrivals."""
        if State.engine is not None:
            State.engine.stream()


def _init(environment: Any, **_: Any) -> None:
    # After locust has forked and before the first channel.
    grpc_gevent.init_gevent()
    if isinstance(environment.runner, WorkerRunner):
        environment.process_exit_code = 0  # the master has the verdict


def _start(environment: Any, **_: Any) -> None:
    runner, options = environment.runner, environment.parsed_options

    def tell(reply: Reply, latency_s: float, size: int) -> None:
        environment.events.request.fire(
            request_type="rank",
            name=reply.tier,
            response_time=latency_s * 1e3,
            response_length=size,
            exception=RuntimeError(reply.error) if reply.tier in BAD else None,
            context={},
        )

    try:
        environment.process_exit_code = 0 if isinstance(runner, WorkerRunner) else None
        objectives_of(options, 1.0)
        process = runner.worker_index if isinstance(runner, WorkerRunner) else 0
        address = str(environment.host or "").removeprefix("http://").removeprefix("grpc://").rstrip("/")
        State.engine = make_engine(address, options, streams=options.streams, process=process, tell=tell)
        State.total = Tally(State.engine.budget_s)
    except REFUSED as error:
        log.error("%s", error)
        environment.process_exit_code = USAGE
        State.engine = State.total = None
        State.refused = True


def _report(data: dict[str, Any], **_: Any) -> None:
    if State.engine is not None:
        data["exfm"] = State.engine.fetch().plain()


def _collect(data: dict[str, Any], **_: Any) -> None:
    if State.total is not None and "exfm" in data:
        State.total.merge(Tally.from_plain(data["exfm"]))


def _quit(environment: Any, **_: Any) -> None:
    if isinstance(environment.runner, WorkerRunner) or environment.process_exit_code == USAGE:
        return
    _judge(environment)


def _stop(environment: Any, **_: Any) -> None:
    # A run of the web page is judged when it is over, not when the page is closed; a master's workers have yet to tell.
    if environment.web_ui and not isinstance(environment.runner, MasterRunner | WorkerRunner):
        _judge(environment)


def _judge(environment: Any) -> None:
    if State.engine is None or State.total is None:
        return
    if not isinstance(environment.runner, MasterRunner):
        State.total.merge(State.engine.fetch())
    options = environment.parsed_options
    verdict = verdict_of(options, State.total, State.engine.profile.expected)
    for line in lines_of(options, State.total, verdict):
        log.warning("%s", line)
    if options.verdict_file:
        write(Path(options.verdict_file), options, State.engine, State.total, verdict)
    environment.process_exit_code = verdict.code


def _timeout_s() -> float:
    return State.engine.timeout_s if State.engine is not None else 0.0


# locust's hooks carry no types.
hooks: Any = locust_events
hooks.init_command_line_parser.add_listener(add_options)
hooks.init.add_listener(_init)
hooks.test_start.add_listener(_start)
hooks.report_to_master.add_listener(_report)
hooks.worker_report.add_listener(_collect)
hooks.test_stop.add_listener(_stop)
hooks.quitting.add_listener(_quit)

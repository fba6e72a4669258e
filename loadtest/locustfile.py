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
from loadtest.report.document import Event
from loadtest.swarm.document import document
from loadtest.swarm.engine import STREAMS, Engine, make_engine
from loadtest.swarm.options import add_options
from loadtest.swarm.result import judged, lines_of, objectives_of, write
from loadtest.swarm.roll import Roll
from loadtest.verdict.judge import USAGE
from loadtest.verdict.objectives import ObjectivesError
from loadtest.workload.asked import WorkloadError
from loadtest.workload.sizes import SizesError

REFUSED = (NotDescribedError, ObjectivesError, SchemaError, SizesError, WorkloadError, ValueError, OSError)
PART = "exfm_part"
"""The message with which a process hands in its part, to itself where it is the only one."""
ALONE = "local"
"""What locust calls the only process."""
OVERDUE_S = 15.0
"""So long after its last deadline a run ends even if something was not handed in: workers begin later than a master."""

log = logging.getLogger("exfm")


class State:
    """This process's part in the run that is under way."""

    engine: Engine | None = None
    roll: Roll | None = None
    """Of a run of several processes their master has it."""
    refused: bool = False
    """The input of this run was; the shape ends it, and the web page stays for another try."""


class ChosenShape(LoadTestShape):
    """Holds the streams until all of them have ended; the rate is the streams' own affair."""

    def tick(self) -> tuple[int, float] | None:
        """As many users as there are streams, then the end."""
        assert self.runner is not None
        options: Any = self.runner.environment.parsed_options
        if State.refused:
            State.refused = False
            return None
        members = _members(self.runner)
        if State.engine is None or State.roll is None:
            # The workers get it with the rest of the options.
            options.streams = STREAMS * max(len(members), 1)
        else:
            State.roll.look(members)
            if not State.roll.waited_for() or State.engine.overdue_s > OVERDUE_S:
                return None
        return options.streams, options.streams


class Stream(User):
    """One stream of arrivals."""

    wait_time = constant(3600)

    @task
    def arrive(self) -> None:
        """All of its arrivals; the last stream to end hands in what the process has counted."""
        if State.engine is not None:
            State.engine.stream()
            if State.engine.done:
                _hand_in(self.environment.runner)


def _init(environment: Any, **_: Any) -> None:
    # After locust has forked and before the first channel.
    grpc_gevent.init_gevent()
    if isinstance(environment.runner, WorkerRunner):
        environment.process_exit_code = 0  # the master has the verdict
    else:
        environment.runner.register_message(PART, _collect)


def _start(environment: Any, **_: Any) -> None:
    runner, options = environment.runner, environment.parsed_options
    if runner is None:
        return  # a worker that joins a run is told to start before locust has made it one; the master won't count it

    def tell(reply: Reply, latency_s: float, size: int) -> None:
        environment.events.request.fire(
            request_type="rank",
            name=reply.tier,
            response_time=latency_s * 1e3,
            response_length=size,
            exception=RuntimeError(reply.error) if reply.tier in BAD else None,
            context={},
        )

    working = isinstance(runner, WorkerRunner)
    try:
        environment.process_exit_code = 0 if working else None
        if not working:
            objectives_of(options, 1.0)
            _check_events(options)
        address = str(environment.host or "").removeprefix("http://").removeprefix("grpc://").rstrip("/")
        process = runner.worker_index if working else 0
        State.engine = make_engine(address, options, streams=options.streams, process=process, tell=tell)
        State.roll = None if working else Roll(_members(runner))
    except REFUSED as error:
        log.error("%s", error)
        environment.process_exit_code = USAGE
        State.engine = State.roll = None
        State.refused = True
        if working:
            runner.send_message(PART, {"refused": str(error)})


def _members(runner: Any) -> dict[str, int]:
    """The processes that generate load and their numbers, by locust's name for each."""
    if not isinstance(runner, MasterRunner):
        return {ALONE: 0}
    there = (*runner.clients.ready, *runner.clients.spawning, *runner.clients.running)
    return {client.id: runner.get_worker_index(client.id) for client in there}  # type: ignore[no-untyped-call]


def _hand_in(runner: Any) -> None:
    if State.engine is not None:
        runner.send_message(PART, State.engine.part.plain())


def _collect(msg: Any, **_: Any) -> None:
    if State.roll is not None:
        State.roll.hand_in(msg.node_id, msg.data)


def _stop(environment: Any, **_: Any) -> None:
    # What was cut short is handed in as far as it came.
    if not isinstance(environment.runner, MasterRunner):
        _hand_in(environment.runner)
    # A run of the web page is judged when it is over, not when the page is closed.
    if environment.web_ui:
        _judge(environment)


def _quit(environment: Any, **_: Any) -> None:
    if environment.process_exit_code != USAGE:
        _judge(environment)


def _judge(environment: Any) -> None:
    if State.engine is None or State.roll is None:
        return
    options, engine = environment.parsed_options, State.engine
    total, verdict = judged(options, engine, State.roll)
    State.engine = State.roll = None
    for line in lines_of(options, total.tally(), verdict):
        log.warning("%s", line)
    if options.verdict_file:
        made = document(options, engine, total, verdict, _events(options, total.zero_unix_s))
        write(Path(options.verdict_file), made)
    environment.process_exit_code = verdict.code


def _check_events(options: Any) -> None:
    if options.events:
        # It brings the plots' library along, which no worker needs.
        from loadtest.commands.output import read_events  # noqa: PLC0415

        read_events(Path(options.events))


def _events(options: Any, zero_unix_s: float) -> list[Event]:
    from loadtest.commands.output import events_since  # noqa: PLC0415

    return events_since(Path(options.events) if options.events else None, zero_unix_s)


# locust's hooks carry no types.
hooks: Any = locust_events
hooks.init_command_line_parser.add_listener(add_options)
hooks.init.add_listener(_init)
hooks.test_start.add_listener(_start)
hooks.test_stop.add_listener(_stop)
hooks.quitting.add_listener(_quit)

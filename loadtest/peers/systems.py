"""What is compared: one interface over every system, whatever it is made of."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from exfm.features.signature import PROBABILITY
from loadtest.peers import triton_environment
from loadtest.peers.caller import OFF, Caller
from loadtest.peers.environments import Report, ensure, packages_of, versions_in
from loadtest.peers.http import HttpCaller
from loadtest.peers.model import Model
from loadtest.peers.own_versions import own_versions, triton_version
from loadtest.peers.process import LOOPBACK, Known, await_ready, child, clean_environment, free_port
from loadtest.peers.ranking import RankingCaller
from loadtest.peers.samples import Sample, golden_sample
from loadtest.peers.triton_environment import VARIABLE, default_path

SERVERS = Path(__file__).parent / "servers"
PATH = "/score"
WORKERS = max(len(os.sched_getaffinity(0)), 2)
"""Processes that score: one per core, as all the peers' manuals have it."""
READY_S = 90.0
END_S = 3.0
"""Peers have nothing to lose when they are killed, and Ray takes its time."""
DRAIN_S = 30.0
"""`exfm-serve` ends its requests, its workers and then its Triton; cut short, that would leave shared memory behind."""

MakeCaller = Callable[[Sequence[Sample]], Caller]


@dataclass(frozen=True)
class Running:
    """A system that is ready.

    Attributes:
        pid: of its first process, 0 if unknown.
        address: host:port.
        caller: makes a caller for samples; call it on the event loop that uses it.
        versions: what only the running system tells.
    """

    pid: int
    address: str
    caller: MakeCaller
    versions: dict[str, str] = field(default_factory=dict)


class System(Protocol):
    """Something that serves a model."""

    @property
    def name(self) -> str:
        """As in the figures."""

    @property
    def ours(self) -> bool:
        """Whether it is this product."""

    @property
    def model(self) -> Model:
        """What it serves."""

    def prepare(self, report: Report) -> dict[str, str]:
        """Install what it needs; versions by package. `PeerUnavailableError` if that can't be done here."""

    def running(self, log: Path) -> contextlib.AbstractContextManager[Running]:
        """Run it until the block ends; `PeerUnavailableError` if it doesn't become ready."""


@dataclass(frozen=True)
class HttpPeer:
    """A server script of `servers/`, in an environment of its own.

    Attributes:
        name: as in the figures.
        model: what it serves.
        pins: exact packages.
        command: the program and its arguments; `{python}`, `{servers}`, `{model}`, `{port}` and `{workers}`
            are filled in.
        cache: folder of the environments.
        variables: of the process.
        python: run with this interpreter as it is, instead of in an environment of its own.
    """

    name: str
    model: Model
    pins: tuple[str, ...]
    command: tuple[str, ...]
    cache: Path
    variables: tuple[tuple[str, str], ...] = ()
    python: str = ""
    ours: bool = False

    def prepare(self, report: Report) -> dict[str, str]:
        """See `System.prepare`."""
        if self.python:
            return {"python": self.python}
        return versions_in(packages_of(ensure(self.name, self.pins, self.cache, report)), self.pins)

    @contextlib.contextmanager
    def running(self, log: Path) -> Iterator[Running]:
        """See `System.running`."""
        port = free_port()
        python = self.python or str(ensure(self.name, self.pins, self.cache, lambda _: None) / "bin" / "python")
        filled = {"python": python, "servers": str(SERVERS), "model": str(self.model.folder), "port": str(port)}
        command = [part.format(**filled, workers=WORKERS) for part in self.command]
        told = {"EXFM_PEER_MODEL": str(self.model.folder), "EXFM_PEER_WORKERS": str(WORKERS)}
        variables = {"PYTHONPATH": str(SERVERS), **told, **dict(self.variables)}
        with child(command, clean_environment(**variables), log, END_S) as pid:
            running = Running(pid, f"{LOOPBACK}:{port}", partial(_http_caller, port, self.model.tasks))
            await_golden(running, self.model, log)
            yield running


@dataclass(frozen=True)
class Exfm:
    """`exfm-serve` as a user runs it, with the Triton that it starts."""

    name: str
    model: Model
    arguments: tuple[str, ...] = ()
    ours: bool = True

    def prepare(self, report: Report) -> dict[str, str]:
        """See `System.prepare`."""
        return own_versions(triton_environment.ensure(report))

    @contextlib.contextmanager
    def running(self, log: Path) -> Iterator[Running]:
        """See `System.running`."""
        address = f"{LOOPBACK}:{free_port()}"
        command = [sys.executable, "-m", "serving", "--model-repository", str(self.model.repository)]
        triton_log = log.absolute().with_suffix(".triton")
        command += ["--listen", address, "--triton-log", str(triton_log), *self.arguments]
        # It runs in a folder of its own, from where ours wouldn't be found.
        variables = {"PYTHONPATH": str(Path(__file__).parents[2]), VARIABLE: str(default_path())}
        with child(command, clean_environment(**variables), log, DRAIN_S) as pid:
            caller = partial(RankingCaller, address, self.model)
            await_golden(Running(pid, address, caller), self.model, log)
            yield Running(pid, address, caller, triton_version(triton_log))


def await_golden(running: Running, model: Model, log: Path) -> None:
    """Return once the system scores the model's golden request right; `PeerUnavailableError` if it doesn't."""
    make = partial(running.caller, [golden_sample(model)])
    known = Known(model.golden[PROBABILITY], max(model.golden_bound, OFF))
    await_ready(make, known, running.pid, READY_S, log)


def _http_caller(port: int, tasks: int, samples: Sequence[Sample]) -> Caller:
    return HttpCaller(LOOPBACK, port, PATH, [sample.body() for sample in samples], tasks)

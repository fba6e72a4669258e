"""What holds for every system that can be run here: the right scores, on loopback only, and nothing left behind."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from threading import Event

import numpy as np
import psutil
import pytest

from loadtest.checking.outcomes import Outcome
from loadtest.peers.caller import Caller, RefusedError
from loadtest.peers.catalog import http_peers, systems
from loadtest.peers.environments import cache_folder, environment_of, is_built
from loadtest.peers.guardian import descendants
from loadtest.peers.http import HttpCaller, HttpError
from loadtest.peers.model import Model
from loadtest.peers.plain_triton import PlainTriton
from loadtest.peers.process import LOOPBACK
from loadtest.peers.samples import Sample, draw_samples
from loadtest.peers.servers.scoring import Scoring
from loadtest.peers.systems import HttpPeer, Running, System

NO_INSTALL = ("exfm", "exfm_same_onnx", "triton", "triton_queue_timeouts", "fastapi")
"""Run in every environment; the others where `exfm-loadtest peers` has built theirs."""
OTHERS = ("mosec", "bentoml", "ray", "litserve")
ORDER = (*NO_INSTALL, *OTHERS)
ANSWER_S = 20.0

pytestmark = pytest.mark.usefixtures("triton_environment")


@dataclass(frozen=True)
class Up:
    system: System
    running: Running
    pids: tuple[int, ...]


class Ahead:
    """Runs systems in their order, one ahead of those that are asked for: to start them is what takes time."""

    def __init__(self, chosen: Sequence[System], logs: Path) -> None:
        self._pool = ThreadPoolExecutor(2)
        self._up: dict[str, Future[Up]] = {system.name: Future() for system in chosen}
        self._done = {system.name: Event() for system in chosen}
        self._ended = {system.name: self._pool.submit(self._run, system, logs / system.name) for system in chosen}

    def _run(self, system: System, folder: Path) -> None:
        try:
            with system.running(folder / "log") as running:
                self._up[system.name].set_result(Up(system, running, (running.pid, *descendants(running.pid))))
                self._done[system.name].wait()
        except BaseException as error:
            if not self._up[system.name].done():
                self._up[system.name].set_exception(error)
            raise

    def __contains__(self, name: object) -> bool:
        return name in self._up

    @contextmanager
    def up(self, name: str) -> Iterator[Up]:
        try:
            yield self._up[name].result()
        finally:
            self._done[name].set()
            self._ended[name].result()

    def close(self) -> None:
        for done in self._done.values():
            done.set()
        self._pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def ahead(
    request: pytest.FixtureRequest, student: Model, naive_model: Model, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ahead]:
    wanted = {item.callspec.params.get("up") for item in request.session.items if hasattr(item, "callspec")}
    made = [with_own_python(each) for each in systems(student, naive_model, cache_folder())]
    here = {each.name: each for each in made if each.name in wanted and not missing(each)}
    begun = Ahead([here[name] for name in ORDER if name in here], tmp_path_factory.mktemp("systems"))
    yield begun
    begun.close()


def with_own_python(system: System) -> System:
    ours = isinstance(system, HttpPeer) and system.name in NO_INSTALL
    return replace(system, python=sys.executable) if ours else system  # type: ignore[type-var]


def missing(system: System) -> bool:
    if not isinstance(system, HttpPeer) or system.python:
        return False
    return not is_built(environment_of(system.name, system.pins, system.cache))


@pytest.fixture(scope="module", params=ORDER)
def up(request: pytest.FixtureRequest, ahead: Ahead) -> Iterator[Up]:
    if request.param not in ahead:
        pytest.skip(f"{request.param} has no environment under {cache_folder()}")
    with ahead.up(request.param) as found:
        yield found
    left = [
        pid for pid in found.pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    ]
    assert left == []


async def asked(caller: Caller, index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The full model's scores; ours answers from a lesser tier while the machine is busy, so it is asked again."""
    async with asyncio.timeout(ANSWER_S):
        tier, probability = await caller.ask(index, ANSWER_S)
        while tier != Outcome.FULL:
            await asyncio.sleep(0.05)
            tier, probability = await caller.ask(index, ANSWER_S)
    return probability


def is_loopback(ip: str) -> bool:
    return ip_address(ip.removeprefix("::ffff:")).is_loopback


async def test_requests_at_once_each_get_their_own_scores(up: Up) -> None:
    scoring = Scoring(up.system.model.folder)
    sizes = (1, 3, 17, 64, 200)
    samples: list[Sample] = [draw_samples(up.system.model, size, 1, seed=size)[0] for size in sizes]
    caller = up.running.caller(samples)
    try:
        for _ in range(3):
            found = await asyncio.gather(*(asked(caller, index) for index in range(len(samples))))
            for sample, probability in zip(samples, found, strict=True):
                expected = np.frombuffer(scoring.score([sample.body()])[0], "<f4").reshape(len(sample), -1)
                np.testing.assert_allclose(probability, expected, atol=1e-5)
    finally:
        await caller.close()


async def test_an_impatient_caller_costs_the_next_one_nothing(up: Up) -> None:
    if isinstance(up.system, PlainTriton):
        pytest.skip("Triton 2.51 itself may crash on calls that end while they wait in its queue (decision 0005)")
    caller = up.running.caller(draw_samples(up.system.model, 100, 1, seed=1))
    try:
        for _ in range(5):
            with suppress(TimeoutError, RefusedError):
                await caller.ask(0, 1e-5)
        assert (await asked(caller, 0)).shape == (100, up.system.model.tasks)
    finally:
        await caller.close()


def test_it_listens_on_loopback_only(up: Up) -> None:
    found = set()
    for pid in (up.running.pid, *descendants(up.running.pid)):
        connections = psutil.Process(pid).net_connections("inet")
        found |= {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}
    assert {ip for ip in found if not is_loopback(ip)} == set()
    assert found or up.system.name.startswith("exfm")  # a socket of ours may be a worker's, which comes and goes


async def test_a_body_that_is_no_request_fails_alone(up: Up) -> None:
    if not isinstance(up.system, HttpPeer):
        pytest.skip("its own suite holds what it does with bad requests")
    (good,) = draw_samples(up.system.model, 5, 1, seed=2)
    port = int(up.running.address.rpartition(":")[2])
    caller = HttpCaller(LOOPBACK, port, "/score", [good.body(), b"nonsense"], up.system.model.tasks)
    try:
        with pytest.raises(HttpError, match=r"HTTP [45]"):
            await caller.ask(1, ANSWER_S)
        assert (await asked(caller, 0)).shape == (5, up.system.model.tasks)
    finally:
        await caller.close()


def test_the_catalogue_names_each_system_once(student: Model, naive_model: Model, tmp_path: Path) -> None:
    names = [each.name for each in systems(student, naive_model, tmp_path)]
    assert sorted(names) == sorted((*NO_INSTALL, *OTHERS))
    assert all(pin.count("==") == 1 for peer in http_peers(student, tmp_path) for pin in peer.pins)

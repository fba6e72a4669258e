"""Several worker processes behind one port, as users run them: real processes, real sockets, a real Triton."""

import asyncio
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import numpy as np
import pytest

from exporter.rollback import Pruned, prune
from serving.client import (
    DeadlinePassedError,
    OverloadedError,
    RankCall,
    Ranking,
    RankingClient,
    ServerFailedError,
    UnreachableError,
)

if TYPE_CHECKING:
    from serving.embedded.process import EmbeddedTriton

CALL = RankCall("feed_click", ad_ids=np.arange(100, 110), ads={"ad": np.arange(10)}, user={"user": 1})
WAIT_S = 5.0
Serving = Callable[..., AbstractContextManager["Server"]]
Slow = OverloadedError | DeadlinePassedError


class Server:
    """The running command."""

    def __init__(self, process: "subprocess.Popen[str]", ready: dict[str, Any]) -> None:
        self.process = process
        self.address = ready["address"]
        self.ops = ready["ops"]

    def get(self, path: str, timeout_s: float = 5.0) -> tuple[int, str]:
        """Status and body of a page; status 0 if nobody answers."""
        try:
            with urlopen(f"http://{self.ops}{path}", timeout=timeout_s) as response:
                return response.status, response.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except (URLError, ConnectionError):
            return 0, ""

    def state(self) -> dict[str, Any]:
        """What `/state` says."""
        state: dict[str, Any] = json.loads(self.get("/state")[1])
        return state

    def pids(self) -> list[int]:
        """The workers' process ids."""
        return [worker["pid"] for worker in self.state()["workers"]]

    def stop(self, number: signal.Signals = signal.SIGTERM, within_s: float = 20.0) -> int:
        """Signal the parent and wait for its exit code."""
        self.process.send_signal(number)
        return self.process.wait(within_s)


@pytest.fixture
def serving(embedded_triton: "EmbeddedTriton", published_repository: Path) -> Serving:
    """`with serving(workers=2) as server`: the command with an ops plane, ready."""

    @contextmanager
    def run(workers: int = 2, repository: Path = published_repository) -> Iterator[Server]:
        command = [sys.executable, "-m", "serving", "--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--json"]
        given = ["--model-repository", str(repository), "--triton", embedded_triton.address]
        more = ["--workers", str(workers), "--drain-s", "3"]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen([*command, *given, *more], stdout=subprocess.PIPE, text=True, env=env) as process:
            try:
                assert process.stdout
                yield Server(process, json.loads(process.stdout.readline()))
            finally:
                process.kill()

    return run


def _poll(condition: Callable[[], bool], within_s: float) -> None:
    until_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    """Also while its threads are still ending: its sockets close with the last of them."""
    return Path(f"/proc/{pid}").exists()


async def _ask(client: RankingClient) -> Ranking | Slow:
    """An answer, or the server's own word that it has no room or no time: this machine may be slow just now."""
    began_s = time.monotonic()
    try:
        return await client.rank(CALL, timeout_s=WAIT_S)
    except OverloadedError as error:
        return error
    except DeadlinePassedError as error:
        if time.monotonic() - began_s >= WAIT_S:
            raise  # nobody said anything
        return error


async def _answer(client: RankingClient, refused: list[Slow] | None = None) -> Ranking:
    """An answer, asked for again where there is no room or no time for it."""
    until_s = time.monotonic() + 10
    while isinstance(answer := await _ask(client), Slow):
        if refused is not None:
            refused.append(answer)
        if time.monotonic() > until_s:
            raise answer
        await asyncio.sleep(0.05)
    return answer


async def _ask_all(address: str, calls: int) -> int:
    """Each call on a connection of its own, so that the kernel spreads them; how often it was asked."""
    refused: list[Slow] = []
    for _ in range(calls):
        async with RankingClient(address) as client:
            await _answer(client, refused)
    return calls + len(refused)


def _counted(server: Server, name: str) -> float:
    lines = server.get("/metrics")[1].splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}(\{{|\s)", line))


async def test_all_workers_serve_count_and_report(serving: Serving) -> None:
    with serving(workers=2) as server:
        assert await asyncio.to_thread(server.get, "/live") == (200, "live\n")
        status, body = await asyncio.to_thread(server.get, "/ready")
        assert status == 200
        assert "passed" in json.loads(body)["workers"][1]["canaries"]["feed_click"]
        asked = await _ask_all(server.address, 16)
        await asyncio.to_thread(_poll, lambda: _counted(server, "exfm_requests_total") == asked, 5.0)
        assert 16 <= _counted(server, "exfm_request_budget_ratio_count") <= asked
        assert _counted(server, "exfm_candidates_total") == 160
        assert _counted(server, "exfm_worker_ready") == 2

        def answered() -> list[int]:
            workers = server.state()["workers"]
            return [sum(worker["state"]["verticals"]["feed_click"]["answers"].values()) for worker in workers]

        await asyncio.to_thread(_poll, lambda: 16 <= sum(answered()) <= asked, 5.0)
        assert min(answered()) > 0, "one worker got every connection"
        state = server.state()
        assert state["versions"] == {"feed_click": 1, "feed_long_view": 1}
        assert {worker["state"]["share"] for worker in state["workers"]} == {0.5}
        pids = server.pids()
        assert await asyncio.to_thread(server.stop) == 0
        assert not any(map(_alive, pids))


async def test_a_killed_worker_comes_back_while_the_other_serves(serving: Serving) -> None:
    with serving(workers=2) as server:
        asked = await _ask_all(server.address, 8)
        await asyncio.to_thread(_poll, lambda: _counted(server, "exfm_requests_total") == asked, 5.0)
        killed, other = server.pids()
        os.kill(killed, signal.SIGKILL)
        await asyncio.to_thread(_poll, lambda: not _alive(killed), 5.0)
        asked += await _ask_all(server.address, 8)
        assert server.get("/ready")[0] == 200

        def back() -> bool:
            workers = server.state()["workers"]
            return all(worker["ready"] for worker in workers) and workers[0]["pid"] not in (0, killed)

        await asyncio.to_thread(_poll, back, 30.0)
        assert server.pids()[1] == other
        assert [worker["restarts"] for worker in server.state()["workers"]] == [1, 0]
        asked += await _ask_all(server.address, 8)
        # What the killed worker had counted is still there.
        await asyncio.to_thread(_poll, lambda: _counted(server, "exfm_requests_total") == asked, 5.0)
        assert server.stop() == 0


async def test_a_worker_that_is_started_again_serves_what_the_others_do(
    serving: Serving, published_repository: Path, tmp_path: Path, republish: Callable[[Path, int], None]
) -> None:
    """Whatever was published meanwhile: Triton goes on with what it has, so another version would be waited for."""
    repository = shutil.copytree(published_repository, tmp_path / "repository", copy_function=shutil.copyfile)
    with serving(workers=1, repository=repository) as server:
        republish(repository / "feed_click", 2)
        assert prune(repository, "feed_click", 1) == Pruned([], [1])
        (killed,) = server.pids()
        os.kill(killed, signal.SIGKILL)

        def back() -> bool:
            (worker,) = server.state()["workers"]
            return bool(worker["ready"]) and worker["pid"] not in (0, killed)

        await asyncio.to_thread(_poll, back, 20.0)
        async with RankingClient(server.address) as client:
            assert (await _answer(client)).model_version == 1
        assert server.stop() == 0


async def test_a_worker_that_hangs_does_not_hold_the_ops_plane(serving: Serving) -> None:
    with serving(workers=2) as server:
        hung, _ = server.pids()

        def up() -> list[bool]:
            return [bool(worker["up"]) for worker in server.state()["workers"]]

        os.kill(hung, signal.SIGSTOP)
        try:
            await asyncio.to_thread(_poll, lambda: up() == [False, True], 5.0)
            began_s = time.monotonic()
            assert server.get("/ready")[0] == 200
            assert "exfm_worker_up" in server.get("/metrics")[1]
            assert time.monotonic() - began_s < 1.0
        finally:
            os.kill(hung, signal.SIGCONT)
        await asyncio.to_thread(_poll, lambda: up() == [True, True], 5.0)
        assert server.stop() == 0


async def test_the_workers_go_with_a_parent_that_is_killed(serving: Serving) -> None:
    with serving(workers=2) as server:
        pids = server.pids()
        server.stop(signal.SIGKILL)
        await asyncio.to_thread(_poll, lambda: not any(map(_alive, pids)), 15.0)


async def test_a_drain_ends_what_is_in_flight(serving: Serving) -> None:
    """Open loop: calls keep coming on live connections while SIGTERM is handled; one per connection may cross it."""
    with serving(workers=2) as server:
        clients = [RankingClient(server.address) for _ in range(6)]
        outcomes: Counter[str] = Counter()
        unmade: list[str] = []

        async def one(client: RankingClient) -> bool:
            try:
                await _ask(client)
            except (UnreachableError, ServerFailedError) as error:
                outcomes["closed"] += 1
                unmade.append(str(error))
                return False
            outcomes["answered"] += 1
            return True

        await asyncio.gather(*(one(client) for client in clients))
        tasks: list[asyncio.Task[bool]] = []
        began_s, left_s, begun = time.monotonic(), math.inf, 0
        for number in range(2000):
            await asyncio.sleep(max(0.0, began_s + number / 250 - time.monotonic()))
            tasks.append(asyncio.create_task(one(clients[number % len(clients)])))
            in_flight = sum(not task.done() for task in tasks)
            if left_s == math.inf and outcomes["answered"] > 125 and in_flight <= 2 * len(clients):
                server.process.send_signal(signal.SIGTERM)
                left_s, begun = time.monotonic(), len(tasks)
            if time.monotonic() > left_s + 0.5:
                break
        answered = await asyncio.gather(*tasks)
        assert sum(outcomes.values()) == len(tasks) + len(clients)
        assert outcomes["answered"] > 125
        assert begun - sum(answered[:begun]) <= len(clients)
        assert outcomes["closed"]
        # All others are of connections that can't be made any more.
        assert len([text for text in unmade if "connect" not in text.lower()]) <= len(clients)
        assert await asyncio.to_thread(server.process.wait, 20) == 0
        for client in clients:
            await client.close()


@pytest.mark.parametrize("streams", [0, 4])
async def test_beside_a_second_server_a_drain_costs_no_call(serving: Serving, streams: int) -> None:
    with serving(workers=1) as leaving, serving(workers=1) as staying:
        target = f"ipv4:{leaving.address},{staying.address}"
        async with RankingClient(target, streams=streams) as client:

            async def one() -> int:
                return (await _answer(client)).model_version

            await asyncio.gather(*(one() for _ in range(4)))
            tasks, began_s = [], time.monotonic()
            for number in range(200):
                await asyncio.sleep(max(0.0, began_s + number / 200 - time.monotonic()))
                tasks.append(asyncio.create_task(one()))
                if number == 100:
                    leaving.process.send_signal(signal.SIGTERM)
            assert await asyncio.gather(*tasks) == [1] * 200
        assert await asyncio.to_thread(leaving.process.wait, 20) == 0
        assert staying.stop() == 0

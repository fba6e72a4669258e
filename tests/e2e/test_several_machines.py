"""The commands of docs/several-machines.md, run as they stand there but for ports; then a frontend is killed."""

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.scale.servers import (
    ENVOY_CONFIG,
    Server,
    ServerMissingError,
    envoy_binary,
    free_ports,
    nats_binary,
    valkey_binary,
    with_addresses,
)
from exfm.events.backends import open_log
from exfm.events.impression import TOPIC
from exfm.events.log import BEGIN
from loadtest.checking.outcomes import Outcome

if TYPE_CHECKING:
    from bench.scale.plant import Plant
    from bench.scale.reading import Served

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/several-machines.md").read_text(encoding="utf-8")
PROGRAMS = ["mkdir", "nats-server", "valkey-server", "python", *["exfm-serve"] * 3, "envoy"]
NAMED = {"envoy": 8500, "admin": 9901, "a": 8501, "b": 8502, "c": 8503, "triton": 8001, "nats": 4222, "valkey": 6379}
"""The ports that the page names."""


def fenced(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)
    return str(found)


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return dict(zip(NAMED, free_ports(len(NAMED)), strict=True))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int]) -> Path:
    """The folder in which the commands are run: what they read is where the page says."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "deploy").mkdir()
    (folder / "deploy/nats.conf").write_text(moved((ROOT / "deploy/nats.conf").read_text(encoding="utf-8"), ports))
    config = ENVOY_CONFIG.read_text(encoding="utf-8")
    made = with_addresses(config, [f"127.0.0.1:{ports[name]}" for name in ("envoy", "admin", *"abc")])
    (folder / "deploy/envoy.yaml").write_text(made, encoding="utf-8")
    return folder


def moved(text: str, ports: dict[str, int]) -> str:
    """With the ports of this run."""
    names = {str(port): str(ports[name]) for name, port in NAMED.items()}
    return re.sub(r"\b(" + "|".join(names) + r")\b", lambda found: names[found[1]], text)


@pytest.fixture(scope="module")
def commands(ports: dict[str, int]) -> list[list[str]]:
    """By the page, with the programs of this environment."""
    try:
        programs = {"nats-server": nats_binary(), "valkey-server": valkey_binary(), "envoy": envoy_binary()}
    except ServerMissingError as error:
        pytest.skip(str(error))
    lines = [shlex.split(line) for line in moved(fenced("console"), ports).splitlines()]
    assert [line[0] for line in lines] == PROGRAMS
    return [[programs.get(line[0], line[0]), *line[1:]] for line in lines]


@pytest.fixture(scope="module")
def served(place: Path) -> "Served":
    from bench.scale.reading import publish

    made = publish(place, candidates=20)
    made.repository.rename(place / "model_repository")
    return made


@pytest.fixture(scope="module")
def plant(
    place: Path, served: "Served", commands: list[list[str]], ports: dict[str, int], triton_environment: Any
) -> Iterator["Plant"]:
    """Everything that the page starts; the frontends in `Plant.fleet`, so that they can be killed."""
    from bench.scale.fleet import Fleet
    from bench.scale.plant import Plant

    make, nats, valkey, triton, *frontends, envoy = commands
    with ExitStack() as stack:
        stack.enter_context(chdir(place))
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("EXFM_TRITON_ENV", str(triton_environment.path))
        subprocess.run(make, check=True)
        for name, command in (("nats", nats), ("valkey", valkey), ("triton", [sys.executable, *triton[1:]])):
            stack.enter_context(Server(command, ports[name], place / f"{name}.log"))
        served.remember(f"redis://127.0.0.1:{ports['valkey']}/0")
        shared = [each[1:-2] for each in frontends]
        assert shared[0] == shared[1] == shared[2]
        numbers = [ports[name] for name in "abc"]
        assert [each[-2:] for each in frontends] == [["--listen", f"127.0.0.1:{port}"] for port in numbers]
        fleet = stack.enter_context(Fleet(place, place / "model_repository", shared[0], numbers))
        options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warn"]
        proxy = Server([*envoy, *options], ports["envoy"], place / "envoy.log")
        yield Plant(fleet, served, stack.enter_context(proxy), ports["admin"])


def test_the_page_asks_both_ways(plant: "Plant", ports: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    assert plant
    exec(compile(moved(fenced("python"), ports), "several-machines.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert all(line.startswith("RankedAd(ad_id=") for line in said)


@pytest.mark.parametrize("via", ["round_robin", "envoy"])
def test_a_frontend_that_is_killed_costs_no_more_than_it_had_in_flight(plant: "Plant", via: str) -> None:
    from bench.scale.frontends import killed

    seen = asyncio.run(killed(plant, via, 1, per_s=80.0, seconds=0.6, seed=0, timeout_s=5.0))
    assert seen["offered"] > 40
    assert seen["failed"] <= seen["killed_in_flight"]
    assert (seen["failed_later"], seen["unanswered"]) == (0, 0)
    assert seen["answered"] > seen["offered"] / 2  # a slow machine's frontends say of the others that they are late


def test_a_frontend_that_hangs_is_done_without_and_comes_back(plant: "Plant") -> None:
    from bench.scale.plant import connected

    async def ask(target: Any) -> list[str]:
        replies = await asyncio.gather(*(target.send(index, 0.3) for index in range(6)))
        return [reply.tier for reply in replies]

    async def hang(number: int) -> None:
        async with plant.target("round_robin") as target:
            await connected(plant, "round_robin", target)
            os.kill(plant.fleet.pid(number), signal.SIGSTOP)
            try:
                async with asyncio.timeout(10):
                    # While it is still asked, two of six get no answer; a frontend may say itself that it is late, too.
                    while plant.connected("round_robin") == 3 or Outcome.UNANSWERED in await ask(target):
                        await ask(target)
                rounds = [await ask(target) for _ in range(5)]
                assert sum(Outcome.UNANSWERED not in each for each in rounds) >= 3
            finally:
                os.kill(plant.fleet.pid(number), signal.SIGCONT)
            await connected(plant, "round_robin", target)

    asyncio.run(hang(0))


def test_they_keep_one_log_and_read_one_store(plant: "Plant", ports: dict[str, int]) -> None:
    from exfm.events.valkey import ValkeyPlace

    assert plant
    log = open_log(f"nats://127.0.0.1:{ports['nats']}/ads")
    try:
        until_s = time.monotonic() + 10
        while sum(record.count for record in log.read(TOPIC, BEGIN, 1000)) < 60:
            assert time.monotonic() < until_s
            time.sleep(0.05)
    finally:
        log.close()
    client = ValkeyPlace("127.0.0.1", ports["valkey"]).client(connect_s=5, answer_s=5)
    # The one that was killed last has been asked for nothing since.
    assert sum(each["cmd"] == "get" for each in client.client_list()) >= 2
    assert client.info("stats")["keyspace_hits"] > 60
    client.close()

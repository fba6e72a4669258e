"""The parts of the frontends' bench that need no server; the rest is run by tests/e2e/test_several_machines.py."""

import asyncio
import re

import pytest

from bench.scale.fleet import Eventful
from bench.scale.plant import BURST, schedule_with_burst
from bench.scale.rank_outage import lookups_in
from bench.scale.servers import ENVOY_CONFIG, with_addresses
from loadtest.driving.target import Reply

CONFIG = ENVOY_CONFIG.read_text(encoding="utf-8")


class Answering:
    async def send(self, index: int, timeout_s: float) -> Reply:
        assert timeout_s == 1.0
        await asyncio.sleep(0)
        return Reply(True, f"{index}")


async def test_events_begin_with_their_requests_and_their_errors_are_raised() -> None:
    happened: list[int] = []

    async def note(load: Eventful) -> None:
        happened.append(load.sent)

    async def fail(_: Eventful) -> None:
        raise ValueError("no such server")

    load = Eventful(Answering(), {1: note, 3: note})
    assert [(await load.send(index, 1.0)).tier for index in range(5)] == ["0", "1", "2", "3", "4"]
    await load.settled()
    assert (happened, load.sent) == ([2, 4], 5)
    failing = Eventful(Answering(), {0: fail})
    await failing.send(0, 1.0)
    with pytest.raises(ValueError, match="no such server"):
        await failing.settled()


def test_a_burst_stands_in_the_midst_of_aschedule_with_burst() -> None:
    schedule, last = schedule_with_burst(50.0, 4.0, seed=0)
    assert len(schedule) == 200 + BURST
    assert (schedule[1:] >= schedule[:-1]).all()
    burst = schedule[last - BURST : last + 1]
    assert (burst == burst[0]).all()
    assert schedule[last + 1] > burst[0]


def test_envoys_addresses_are_exchanged_and_nothing_else() -> None:
    # The new ports are old ones of others.
    moved = with_addresses(CONFIG, ["127.0.0.1:8501", "127.0.0.1:8500", "10.9.0.1:8503", "10.9.0.2:8502", "[::1]:1"])
    pattern = r"address: (\S+), port_value: (\d+)"
    found = [("127.0.0.1", "8500"), ("127.0.0.1", "8501"), ("10.9.0.1", "8503"), ("10.9.0.2", "8502"), ("[::1]", "1")]
    assert re.findall(pattern, moved) == found
    assert re.sub(pattern, "", moved) == re.sub(pattern, "", CONFIG)
    with pytest.raises(ValueError, match="its ports are 9901, 8500, 8501, 8502, 8504"):
        with_addresses(CONFIG.replace("8503", "8504"), ["a:1"] * 5)


def test_lookups_are_read_from_the_page() -> None:
    page = (
        "# HELP exfm_history_lookups_total Histories asked for.\n"
        'exfm_history_lookups_total{result="hit",worker="0"} 90.0\n'
        'exfm_history_lookups_total{result="hit",worker="1"} 1e+01\n'
        'exfm_history_lookups_total{result="outage",worker="0"} 7.0\n'
        'exfm_history_lookups_created{result="hit",worker="0"} 1.7e+09\n'
    )
    assert lookups_in(page) == {"hit": 100, "outage": 7}

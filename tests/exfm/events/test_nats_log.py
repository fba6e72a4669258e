"""JetStream alone: what the contract does not say, and what a server can do to its callers."""

import asyncio
import time

import pytest

from bench.scale.servers import Server, free_ports
from exfm.events.backends import open_log
from exfm.events.log import BEGIN, EventLog, LogUnavailableError
from exfm.events.wire import EventError

pytest.importorskip("nats", reason="nats-py is not installed: pip install 'exfm-serving[scale]'")


def appended(log: EventLog, payload: bytes, batch_id: bytes) -> bool:
    """Append as a caller does that does not give up."""
    until_s = time.monotonic() + 20
    while time.monotonic() < until_s:
        try:
            return log.append("a", payload, 1, batch_id)
        except LogUnavailableError:
            continue
    raise AssertionError("the log does not come back")


def test_a_server_that_is_killed_loses_nothing_and_its_callers_go_on(nats_server: Server) -> None:
    log = open_log(f"nats://127.0.0.1:{nats_server.port}/live?timeout_s=0.5")
    for number in range(20):
        log.append("a", str(number).encode(), 1, str(number).encode())
    nats_server.kill()
    with pytest.raises(LogUnavailableError, match="/live: "):
        log.append("a", b"lost?", 1, b"next")
    with pytest.raises(LogUnavailableError):
        log.read("a", BEGIN, 10)
    nats_server.start()
    appended(log, b"next", b"next")
    assert not appended(log, b"again", b"7")  # known from before the server's death
    payloads = [record.payload for record in log.read("a", BEGIN, 100)]
    assert payloads[:20] == [str(number).encode() for number in range(20)]
    assert payloads[20:] in ([b"next"], [b"lost?"])
    log.close()


def test_a_server_that_hangs_costs_no_more_than_the_timeout(nats_server: Server) -> None:
    log = open_log(f"nats://127.0.0.1:{nats_server.port}/live?timeout_s=0.3")
    nats_server.pause()
    began_s = time.monotonic()
    with pytest.raises(LogUnavailableError):
        log.append("a", b"1", 1, b"1")
    assert 0.25 < time.monotonic() - began_s < 2.0
    nats_server.resume()
    appended(log, b"1", b"1")
    assert [record.payload for record in log.read("a", BEGIN, 10)] == [b"1"]
    log.close()


def test_nobody_there_is_an_outage_and_soon_known() -> None:
    (port,) = free_ports(1)
    began_s = time.monotonic()
    with pytest.raises(LogUnavailableError, match=f"127.0.0.1:{port}"):
        open_log(f"nats://127.0.0.1:{port}/live?timeout_s=0.3")
    assert time.monotonic() - began_s < 2.0


def test_a_record_that_can_never_fit_is_no_outage(jetstream: str) -> None:
    log = open_log(f"{jetstream}/large")
    with pytest.raises(EventError, match="max_payload"):
        log.append("a", bytes(9 << 20), 1, b"1")
    assert log.append("a", bytes(7 << 20), 1, b"2")
    assert len(log.read("a", BEGIN, 2)[0].payload) == 7 << 20
    log.close()


def test_a_stream_that_differs_is_refused(jetstream: str) -> None:
    open_log(f"{jetstream}/differs").close()
    with pytest.raises(LogUnavailableError, match="'differs' has 1 replicas; replicas=3"):
        open_log(f"{jetstream}/differs?replicas=3")

    async def make_another() -> None:
        import nats

        client = await nats.connect(jetstream)
        await client.jetstream().add_stream(name="foreign", subjects=["orders.>"])
        await client.close()

    asyncio.run(make_another())
    with pytest.raises(LogUnavailableError, match="'foreign', but it was not made for this"):
        open_log(f"{jetstream}/foreign")


def test_replicas_need_a_cluster(jetstream: str) -> None:
    with pytest.raises(LogUnavailableError, match="non-clustered"):
        open_log(f"{jetstream}/three?replicas=3")


def test_two_committers_never_take_each_other_back(jetstream: str) -> None:
    one, two = open_log(f"{jetstream}/commits"), open_log(f"{jetstream}/commits")
    for offset in range(1, 20):
        (one if offset % 2 else two).commit("me", "a", offset)
        (two if offset % 2 else one).commit("me", "a", offset - 1)
        assert one.committed("me", "a") == two.committed("me", "a") == offset
    one.close()
    two.close()

"""JetStream alone: what the contract does not say, and what a server can do to its callers."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.scale.servers import Server, free_ports, nats_nodes
from exfm.events.backends import check_log, open_log
from exfm.events.log import BEGIN, EventLog, LogRefusedError, LogUnavailableError
from exfm.events.urls import UrlError
from exfm.events.wire import EventError

pytest.importorskip("nats", reason="nats-py is not installed: pip install 'exfm-serving[scale]'")

from exfm.events.nats_log import NatsLog
from exfm.events.nats_stream import SCANNED, Stream


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
    check_log(f"nats://127.0.0.1:{port}/live?timeout_s=0.3")  # an outage refuses nobody
    assert time.monotonic() - began_s < 2.0


def test_a_record_that_can_never_fit_is_no_outage(jetstream: str) -> None:
    log = open_log(f"{jetstream}/large")
    with pytest.raises(EventError, match="max_payload"):
        log.append("a", bytes(9 << 20), 1, b"1")
    assert log.append("a", bytes(7 << 20), 1, b"2")
    assert len(log.read("a", BEGIN, 2)[0].payload) == 7 << 20
    log.close()


def add_stream(url: str, **config: Any) -> None:
    async def add() -> None:
        import nats

        client = await nats.connect(url)
        await client.jetstream().add_stream(**config)
        await client.close()

    asyncio.run(add())


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("differs?replicas=3", {"subjects": ["differs.*"], "allow_direct": True}, "'differs' has 1 replicas; replicas=3"),
    ("foreign", {"subjects": ["orders.>"], "allow_direct": True}, r"'foreign'.*: subjects is without foreign\.\*"),
    ("plain", {"subjects": ["plain.*"]}, "allow_direct is off"),
    ("queue", {"subjects": ["queue.*"], "allow_direct": True, "retention": "workqueue"}, "retention is not limits"),
    ("light", {"subjects": ["light.*"], "allow_direct": True, "storage": "memory"}, "storage is memory"),
    ("short", {"subjects": ["short.*"], "allow_direct": True, "max_bytes": 9999}, "discard is old"),
    ("aged", {"subjects": ["aged.*"], "allow_direct": True, "max_age": 3600}, "max_age is 3600 s, after which"),
    ("brief", {"subjects": ["brief.*"], "allow_direct": True}, "duplicate_window is 120 s, below window_s=600"),
    ("three?replicas=3", {}, "replicas > 1 not supported in non-clustered"),
    ("shared", {"name": "another", "subjects": ["shared.clicks"]}, "subjects overlap with an existing stream"),
]


@pytest.mark.parametrize(("rest", "config", "why"), REFUSED, ids=[rest for rest, *_ in REFUSED])
def test_what_will_not_pass_is_a_settings_error(jetstream: str, rest: str, config: dict[str, Any], why: str) -> None:
    if config:
        add_stream(jetstream, **{"name": rest.partition("?")[0], **config})
    for attempt in (open_log, check_log):
        with pytest.raises(UrlError, match=f"^event log: 127.*/{rest.partition('?')[0]}: .*{why}"):
            attempt(f"{jetstream}/{rest}")


def test_a_wrong_password_is_a_settings_error_and_soon_known(tmp_path: Path) -> None:
    node = nats_nodes(tmp_path)[0]
    with (tmp_path / "node0.conf").open("a") as config:
        config.write('authorization { user: "ads", password: "right" }\n')
    with node:
        open_log(f"nats://ads:right@127.0.0.1:{node.port}/live").close()
        began_s = time.monotonic()
        with pytest.raises(LogRefusedError, match=r"(?i)/live: .*authorization violation") as caught:
            open_log(f"nats://ads:wrong@127.0.0.1:{node.port}/live?timeout_s=20")
    assert "wrong" not in str(caught.value)
    assert time.monotonic() - began_s < 5.0


def test_a_record_above_the_streams_limit_is_no_outage(jetstream: str) -> None:
    add_stream(jetstream, name="tight", subjects=["tight.*"], allow_direct=True, max_msg_size=1000)
    log = open_log(f"{jetstream}/tight?window_s=120")
    with pytest.raises(EventError, match="max_msg_size"):
        log.append("a", bytes(2000), 1, b"1")
    assert log.append("a", bytes(500), 1, b"2")
    log.close()


def test_two_committers_never_take_each_other_back(jetstream: str) -> None:
    one, two = open_log(f"{jetstream}/commits"), open_log(f"{jetstream}/commits")
    for offset in range(1, 20):
        (one if offset % 2 else two).commit("me", "a", offset)
        (two if offset % 2 else one).commit("me", "a", offset - 1)
        assert one.committed("me", "a") == two.committed("me", "a") == offset
    one.close()
    two.close()


def filled(url: str, name: str, records: int) -> NatsLog:
    """A log whose topic `a` holds so many records of 2 events, all committed."""
    log = NatsLog(f"{url.removeprefix('nats:')}/{name}?timeout_s=5")

    async def fill() -> None:
        await asyncio.gather(*[log._stream.append("a", b"", 2, str(number).encode()) for number in range(records)])

    log._loop.call(fill(), 20.0)
    log.commit("me", "a", log.read("a", BEGIN, records)[-1].offset)
    return log


def test_retention_looks_no_further_than_what_stays(jetstream: str) -> None:
    log = filled(jetstream, "young", 3 * SCANNED)
    before = log._client.stats["in_msgs"]
    assert log.trim("a", 1) == 0
    assert log._client.stats["in_msgs"] - before < 1.1 * SCANNED
    assert log.lag("you", "a").events == 6 * SCANNED
    log.close()


def test_what_retention_has_dropped_stays_dropped(jetstream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log, drop, drops = filled(jetstream, "old", 2 * SCANNED + 10), Stream.drop, list[int]()

    async def fails_once(stream: Stream, topic: str, before: int) -> None:
        drops.append(before)
        if len(drops) == 2:
            raise TimeoutError("gone")
        await drop(stream, topic, before)

    monkeypatch.setattr(Stream, "drop", fails_once)
    with pytest.raises(LogUnavailableError, match="gone"):
        log.trim("a", 1 << 50)
    assert log.lag("you", "a").events == 2 * (SCANNED + 10)
    log._place = replace(log._place, timeout_s=-1.0)  # the time for it is over at once
    monkeypatch.setattr(log, "_call", lambda work, *_: log._loop.call(work(), 20.0))
    assert [log.trim("a", 1 << 50) for _ in range(3)] == [2 * SCANNED, 20, 0]
    log.close()

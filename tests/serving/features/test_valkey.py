"""Histories from a real Valkey: found, and done without while it is dead or hangs."""

import asyncio
import time
from collections.abc import Iterator
from statistics import median

import pytest

from bench.scale.servers import Server, ServerMissingError, valkey_server
from serving.features.lookup import HistoryLookup, LookupOptions
from serving.features.store import HistoryStore, OutageError, opener

WITHIN_S = 20.0


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("redis", reason="redis is not installed: pip install 'exfm-serving[scale]'")
    try:
        made = valkey_server(tmp_path_factory.mktemp("valkey"))
    except ServerMissingError as error:
        pytest.skip(str(error))
    with made:
        yield made


def put(server: Server, user: int, value: bytes) -> None:
    from exfm.events.valkey import ValkeyPlace, key_of

    client = ValkeyPlace("127.0.0.1", server.port).client(connect_s=5, answer_s=5)
    client.set(key_of(user), value)
    client.close()


def connected(server: Server) -> HistoryStore:
    """A reader; this machine may be too busy for the first tries."""
    until_s = time.monotonic() + WITHIN_S
    while True:
        try:
            return opener(f"redis://127.0.0.1:{server.port}")()
        except OutageError:
            if time.monotonic() > until_s:
                raise


async def until(lookup: HistoryLookup, wanted: bytes) -> None:
    async with asyncio.timeout(WITHIN_S):
        while await lookup.packed(7, 1.0) != wanted:  # noqa: ASYNC110  # there is no event for it
            await asyncio.sleep(0.01)


async def test_a_server_that_is_killed_and_started_again_is_counted_and_found_again(server: Server) -> None:
    put(server, 7, b"seven")
    lookup = HistoryLookup(opener(f"redis://127.0.0.1:{server.port}"), LookupOptions(1.0, 0.5, retry_s=0.05))
    lookup.start()
    await until(lookup, b"seven")
    async with asyncio.timeout(WITHIN_S):
        while not lookup.found["miss"]:
            assert await lookup.packed(8, 1.0) == b""
    server.kill()
    before = lookup.found.copy()
    for _ in range(20):
        assert await lookup.packed(7, 1.0) == b""
    ended = lookup.found - before
    assert ended.total() == 20
    assert set(ended) <= {"outage", "timeout"}
    assert ended["outage"] > 0
    server.start()
    await until(lookup, b"seven")
    assert set(lookup.found) <= {"hit", "miss", "outage", "timeout"}
    lookup.close()


async def test_a_server_that_hangs_costs_a_request_no_more_than_its_share(server: Server) -> None:
    put(server, 7, b"seven")
    lookup = HistoryLookup(opener(f"redis://127.0.0.1:{server.port}"), LookupOptions(1.0, 0.01, retry_s=0.05))
    lookup.start()
    await until(lookup, b"seven")
    server.pause()
    spent_s = []
    for _ in range(20):
        began_s = time.monotonic()
        assert await lookup.packed(7, 1.0) == b""
        spent_s.append(time.monotonic() - began_s)
    assert median(spent_s) < 0.1
    assert lookup.found["timeout"] >= 1
    assert lookup.found["outage"] >= 1  # the connection was given up, so the thread is free again
    server.resume()
    await until(lookup, b"seven")
    lookup.close()


def test_a_reader_gives_up_soon(server: Server) -> None:
    reader = connected(server)
    server.pause()
    began_s = time.monotonic()
    with pytest.raises(OutageError, match=str(server.port)):
        reader.get(7)
    assert time.monotonic() - began_s < 1.0
    server.resume()
    reader.close()

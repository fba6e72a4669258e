"""Valkey alone: what the contract does not say, and what a server can do to its callers."""

import time
from contextlib import suppress

import numpy as np
import pytest

from bench.scale.servers import Server, free_ports
from exfm.augment.store.backends import open_store
from exfm.augment.store.store import StoreOptions, StoreUnavailableError
from exfm.events.urls import UrlError
from exfm.features.embeddings import quantise
from exfm.features.history import History

pytest.importorskip("redis", reason="redis is not installed: pip install 'exfm-serving[scale]'")


def history(*times: int, dimension: int = 4) -> History:
    codes = quantise(np.full((len(times), dimension), 0.5, np.float32), "int8")
    number = np.array(times, np.uint64)
    return History(np.array(times, np.int64), number, np.full(len(times), 1, np.uint32), codes, dimension, "int8")


def test_a_server_that_is_killed_is_an_outage_and_then_goes_on(valkey: str, valkey_node: Server) -> None:
    store = open_store(valkey)
    store.update({1: history(10)}, 1)
    valkey_node.kill()
    for operation in (store.position, lambda: store.read(1), lambda: store.update({}, 2), lambda: store.expire(0)):
        with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1"):
            operation()
    valkey_node.start()
    until_s = time.monotonic() + 20
    position = 1
    while time.monotonic() < until_s and position != 2:
        with suppress(StoreUnavailableError):  # it reads its file for a while
            store.update({2: history(20)}, 2)  # the same object, by itself
            position = store.position()
    assert position == 2
    assert store.read(1) is not None
    store.close()


def test_a_full_server_refuses_an_update_whole(valkey: str) -> None:
    store = open_store(valkey, StoreOptions())
    long = history(*range(60), dimension=64)

    def fill() -> None:
        for number in range(1, 100):
            store.update(dict.fromkeys(range(100 * number, 100 * number + 100), long), number)

    with pytest.raises(StoreUnavailableError, match=r"(?i)maxmemory"):
        fill()
    refused = store.position() + 1
    assert refused > 1
    assert all(store.read(user) is None for user in range(100 * refused, 100 * refused + 100))
    assert all(store.read(user) is not None for user in range(100, 100 * refused))
    store.close()


def test_a_server_that_lost_its_memory_says_so_by_its_position(valkey: str) -> None:
    from redis import Redis

    store = open_store(valkey)
    store.update({1: history(10)}, 7)
    with Redis.from_url(valkey) as client:
        client.flushdb()
    assert store.position() == 0
    store.close()


def test_what_others_keep_there_is_left_alone(valkey: str) -> None:
    from redis import Redis

    store = open_store(valkey)
    store.update({1: history(10)}, 7)
    with Redis.from_url(valkey) as client:
        client.set(b"theirs", b"not a history")
        client.set(b"exfm:user:" + b"\0" * 8, b"not a history")
        assert store.expire(1 << 50) == 2
        assert set(client.keys(b"*")) == {b"theirs", b"exfm:position"}
    store.close()


def test_nobody_there_is_soon_known() -> None:
    (port,) = free_ports(1)
    began_s = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{port}"):
        open_store(f"redis://127.0.0.1:{port}/0")
    assert time.monotonic() - began_s < 2


@pytest.mark.parametrize(
    "url",
    ["redis:a", "redis://", "redis://a:x/0", "redis://a:0/0", "redis://a/db", "redis://a/1?x=1", "redis://:pw@a/b"],
)
def test_a_wrong_url_is_refused_and_shows_no_password(url: str) -> None:
    with pytest.raises(UrlError, match="embedding store: ") as raised:
        open_store(url)
    assert "pw" not in str(raised.value).replace("[user:password@]", "")

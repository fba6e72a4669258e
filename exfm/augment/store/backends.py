"""The online stores that there are, by the scheme of their URL."""

from collections.abc import Callable
from functools import partial

from exfm.augment.store.lmdb_store import LmdbStore
from exfm.augment.store.store import EmbeddingStore, StoreOptions
from exfm.events.extras import lazily
from exfm.events.urls import open_url

BACKENDS: dict[str, Callable[[str, StoreOptions], EmbeddingStore]] = {
    "lmdb": LmdbStore,
    "redis": lazily("redis", "exfm.augment.store.valkey_store", "ValkeyStore"),
}


def open_store(url: str, options: StoreOptions | None = None) -> EmbeddingStore:
    """The store behind `lmdb:PATH` or `redis://HOST:PORT/DB` (Valkey or Redis; see `exfm.events.valkey`).

    Raises:
        UrlError: the scheme is unknown, its client library is not installed, or the rest of the URL is wrong.
        StoreUnavailableError: it won't open now.
    """
    bound = options or StoreOptions()
    return open_url(url, "embedding store", {name: partial(_open, make, bound) for name, make in BACKENDS.items()})


def _open(make: Callable[[str, StoreOptions], EmbeddingStore], options: StoreOptions, rest: str) -> EmbeddingStore:
    return make(rest, options)

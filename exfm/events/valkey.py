"""Where a Valkey or Redis server is, and how to talk to it: `redis://[user:password@]host[:port][/db]`."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from exfm.events.urls import UrlError, masked
from exfm.features.history import user_key

POSITION = b"exfm:position"
USERS = b"exfm:user:"
"""A user's key is that and the 8 bytes of `user_key`: others may use the same database."""
MOST_DB = 1 << 16


def key_of(user: int) -> bytes:
    """Where a user's packed history is."""
    return USERS + user_key(user)


@dataclass(frozen=True)
class ValkeyPlace:
    """A parsed URL; `db` is the number of the database, 0 if none is named."""

    host: str
    port: int = 6379
    db: int = 0
    username: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.db}"

    @classmethod
    def parse(cls, rest: str) -> "ValkeyPlace":
        """The place behind `redis:`; `UrlError` names the part that is wrong."""
        if not rest.startswith("//"):
            raise UrlError(f"embedding store: {masked(f'redis:{rest}')!r} must begin with redis://")
        try:
            parts = urlsplit(f"redis:{rest}")
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UrlError(f"embedding store: redis: {error}") from None
        db = re.fullmatch(r"/?(\d{0,5})", parts.path)
        if not host or port == 0 or not db or parts.query or parts.fragment:
            raise UrlError(f"embedding store: {'redis://' + parts.netloc.rpartition('@')[2] + parts.path!r}: {_FORM}")
        user, password = (unquote(each) if each else None for each in (parts.username, parts.password))
        return cls(host, port or cls.port, int(db[1] or 0), user, password)

    def client(self, *, connect_s: float, answer_s: float) -> "Redis":
        """A client that connects with its first command, and neither waits longer than that nor tries again."""
        return Redis(
            self.host,
            self.port,
            self.db,
            username=self.username,
            password=self.password,
            socket_connect_timeout=connect_s,
            socket_timeout=answer_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )


_FORM = "the form is redis://[user:password@]host[:port][/db]"

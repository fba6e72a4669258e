"""Histories from Valkey or Redis: one round trip per look-up, on a connection that is let go of when it fails."""

from typing import Any

from redis.exceptions import RedisError

from exfm.events.valkey import ValkeyPlace, key_of
from serving.features.store import OutageError

CONNECT_S, ANSWER_S = 0.1, 0.05
"""A look-up is waited for much shorter than that; this bounds how long the look-ups' thread may hang."""


class ValkeyOpener:
    """Opens readers; made once, with the URL checked."""

    def __init__(self, rest: str) -> None:
        """`UrlError` if what stands behind `redis:` is wrong."""
        self._place = ValkeyPlace.parse(rest)

    def __call__(self) -> "ValkeyReader":
        return ValkeyReader(self._place)


class ValkeyReader:
    """A `HistoryStore` over one connection."""

    def __init__(self, place: ValkeyPlace) -> None:
        """`OutageError` if nobody answers."""
        self._place = place
        self._client: Any = place.client(connect_s=CONNECT_S, answer_s=ANSWER_S)
        try:
            self._ask("PING")
        except OutageError:
            self.close()
            raise

    def get(self, user: int) -> bytes | None:
        value: bytes | None = self._ask("GET", key_of(user))
        return value

    def close(self) -> None:
        self._client.close()

    def _ask(self, *command: str | bytes) -> Any:
        try:
            return self._client.execute_command(*command)
        except (RedisError, OSError) as error:
            raise OutageError(f"{self._place}: {error}") from error

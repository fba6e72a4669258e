"""The online store: per user the last compressed embeddings in one packed value; what every backend promises."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from exfm.features.history import MAP_BYTES, History

DAY_MS = 86_400_000


class StoreUnavailableError(Exception):
    """The store can't be reached or written now; the same call may succeed later, nothing was half done."""


@dataclass(frozen=True)
class StoreOptions:
    """Bounds.

    Attributes:
        capacity: events kept per user. More than the encoder reads: those younger than its delay don't count for it.
        keep_ms: an event older than the newest one of the same update by more than this is dropped.
        bytes: the most that an embedded store's file may grow to; no more than `MAP_BYTES`.
    """

    capacity: int = 64
    keep_ms: int = 30 * DAY_MS
    bytes: int = MAP_BYTES


class EmbeddingStore(Protocol):
    """The annotator's side. Every method may raise `StoreUnavailableError`."""

    def update(self, events: Mapping[int, History], position: int) -> None:
        """Merge events into their users' histories and note `position`, at once; doing it again changes nothing."""

    def position(self) -> int:
        """What the last update noted; 0 at first."""

    def read(self, user: int) -> History | None:
        """A user's history; None if there is none or it can't be read."""

    def expire(self, before_ms: int) -> int:
        """Drop users without an event since then; how many went.

        A call looks at no more than some ten thousand users; the next one goes on behind them.
        """

    def close(self) -> None:
        """Let go of it."""

"""Where the asynchronous plane keeps its things: one folder by default, or a URL per role."""

from dataclasses import dataclass
from pathlib import Path

from exfm.augment.store.backends import open_store
from exfm.augment.store.store import EmbeddingStore, StoreOptions
from exfm.events.backends import open_log
from exfm.events.log import EventLog
from exfm.events.sqlite import SqliteLog

NONE = "none"


@dataclass(frozen=True)
class Places:
    """Paths and URLs.

    Attributes:
        log: URL of the event log that serving writes.
        join: the joiner's file: its state and its output.
        stream: folder of the example stream.
        store: URL of the online store, or `none`.
        snapshots: folder of the teachers.
    """

    log: str
    join: Path
    stream: Path
    store: str
    snapshots: Path

    @classmethod
    def under(cls, folder: Path) -> "Places":
        """Everything embedded, in one folder."""
        return cls(
            f"sqlite:{folder / 'log.sqlite'}",
            folder / "join.sqlite",
            folder / "stream",
            f"lmdb:{folder / 'store'}",
            folder / "snapshots",
        )

    def open_log(self) -> EventLog:
        """The event log; see `exfm.events.log.open_log`."""
        return open_log(self.log)

    def open_output(self) -> EventLog:
        """The join's output."""
        return SqliteLog(self.join)

    def open_store(self, options: StoreOptions | None = None) -> EmbeddingStore | None:
        """The online store, or None."""
        return None if self.store == NONE else open_store(self.store, options)

"""Keeps the online store up with the stream; what it misses, it gets from the stream's files."""

import logging

from exfm.augment.annotate.table import by_user
from exfm.augment.store.store import EmbeddingStore, StoreUnavailableError
from exfm.data.annotated import StreamReader
from exfm.data.commits import Commit
from exfm.features.history import History

log = logging.getLogger(__name__)


class StoreFollower:
    """A store notes the number of the last commit that it has; None for no store at all."""

    def __init__(self, store: EmbeddingStore | None, reader: StreamReader) -> None:
        self._store, self._reader = store, reader
        self.behind = False

    def keep(self, commit: Commit, events: dict[int, History]) -> None:
        """Put a fresh commit's events in; an outage is noted, and made up for later."""
        if self._store is None or self.behind:
            return
        try:
            if self._store.position() == commit.number - 1:
                self._store.update(events, commit.number)
            else:
                self.behind = True
        except StoreUnavailableError as error:
            self._fall_behind(error)

    def catch_up(self, last: Commit) -> None:
        """Give the store what it missed up to `last`."""
        if self._store is None:
            return
        try:
            position = self._store.position()
            if position < last.number:
                missed = {each.first_row: each.number for each in self._reader.commits() if each.number > position}
                for part in self._reader.read(min(missed)):
                    self._store.update(by_user(part.examples.user, part.events), missed[part.first_row])
                self._store.update({}, last.number)
            self.behind = False
        except StoreUnavailableError as error:
            self._fall_behind(error)

    def _fall_behind(self, error: StoreUnavailableError) -> None:
        log.warning("the online store falls behind: %s", error)
        self.behind = True

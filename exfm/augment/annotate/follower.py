"""Keeps the online store up with the stream; what it misses, it gets from the stream's files.

What retention has dropped from the stream before the store could have it, the store never gets: it is older than what
the store itself keeps. A store that is ahead followed another stream; from now on it follows this one.
"""

import logging
from itertools import islice

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

    def catch_up(self, last: Commit, most: int | None = None) -> None:
        """Give the store what it missed up to `last`, in this call no more than `most` commits of it."""
        if self._store is None:
            return
        try:
            self.behind = not self._followed(self._store, last, most)
        except StoreUnavailableError as error:
            self._fall_behind(error)

    def _followed(self, store: EmbeddingStore, last: Commit, most: int | None) -> bool:
        """Whether the store has come to the end."""
        position = store.position()
        if position > last.number:
            log.warning(
                "the online store is at commit %d of another stream; this one ends at %d", position, last.number
            )
        missed = [each for each in self._reader.commits() if each.number > position and each.files]
        parts = self._reader.read(missed[0].first_row) if position < last.number and missed else iter(())
        for part in islice(parts, most):
            store.update(by_user(part.examples.user, part.events), part.commit)
        if most is not None and len(missed) > most:
            return False
        if position != last.number:
            store.update({}, last.number)
        return True

    def _fall_behind(self, error: StoreUnavailableError) -> None:
        log.warning("the online store falls behind: %s", error)
        self.behind = True

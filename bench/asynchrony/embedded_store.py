"""The death of an embedded store: it has no process of its own, so its writer dies amid an update, or its files go."""

import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from bench.overload.plant import BenchError
from exfm.augment.places import Places
from exfm.augment.store.lmdb_store import LmdbStore
from exfm.data.commits import COMMITS, read_commits

SCHEME = "lmdb:"
WAIT_S, LOOK_S = 20.0, 0.0001
"""A writer that was killed just before takes seconds to begin again."""
AMID_S = 0.001
"""About as long as the store takes to follow a small commit of the stream."""


class EmbeddedStore:
    """An `Engine` whose death is its writer's: just after the stream has a commit, before or while the store gets it.

    Every second time the store's folder is lost as well, and must come back from the stream.

    Args:
        places: of a store in a folder.
        end: kills its writer.
        begin: starts it again.
        seed: of the instants.
    """

    def __init__(self, places: Places, end: Callable[[], None], begin: Callable[[], None], seed: int) -> None:
        self._folder, self._stream = Path(places.store.removeprefix(SCHEME)), places.stream
        self._end, self.start = end, begin
        self._draw = np.random.default_rng(seed)
        self._kills = 0
        self.behind = 0
        """How often the store had less than the stream when it died."""
        self.lost = 0
        """How often its folder was."""

    def kill(self) -> None:
        """Kill -9 its writer.

        Raises:
            BenchError: it commits nothing, so there is no update that it could die amid.
        """
        self._await_commit()
        time.sleep(float(self._draw.uniform(0, AMID_S)))
        self._end()
        self._kills += 1
        with closing(LmdbStore(self._folder)) as store:
            self.behind += store.position() < read_commits(self._stream)[0][-1].number
        if self._kills % 2 == 0:
            shutil.rmtree(self._folder)
            self.lost += 1

    def _await_commit(self) -> None:
        log = self._stream / COMMITS
        before, until_s = log.stat().st_size, time.monotonic() + WAIT_S
        while log.stat().st_size == before:
            if time.monotonic() > until_s:
                raise BenchError(f"{log}: nothing was committed for {WAIT_S:g} s, so no store can die amid an update")
            time.sleep(LOOK_S)

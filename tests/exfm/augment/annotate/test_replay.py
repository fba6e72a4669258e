"""A logged request, replayed: what the frontend read from the real store is what training makes for that row."""

from typing import Any

import numpy as np
import pytest

from exfm.augment.store.lmdb_store import LmdbStore
from exfm.data.annotated import StreamReader
from exfm.data.histories import Histories
from exfm.data.source import Source, open_source
from exfm.features.encoding import MISSING
from exfm.features.history import History, inputs_at, pack, row_of, unpack
from exfm.features.schema import HistorySpec

FIRST = 200
"""Impressions that are annotated before the others are served."""


@pytest.fixture
def spec(plant: Any) -> HistorySpec:
    """Late enough for all that was served after the first part: the store had none of that."""
    times = plant.world.source.examples.time_ms
    return HistorySpec(5, 8, int(times[-1] - times[FIRST]) + 1)


@pytest.fixture
def source(plant: Any) -> Source:
    """The stream after both parts; the second was logged with the packed histories that the store gave."""
    store, served = LmdbStore(plant.folder / "store"), plant.world.impressions
    plant.store = store
    plant.join(0, FIRST)
    annotator = plant.open()
    plant.drain(annotator)
    for place in range(FIRST, len(served)):
        history = store.read(served[place].user)
        served[place] = served[place]._replace(history=pack(history) if history else b"")
    plant.join(FIRST)
    plant.drain(annotator)
    annotator.close()
    store.close()
    return open_source(plant.folder / "stream")


def test_the_history_of_a_logged_request_is_the_one_in_training(plant: Any, spec: HistorySpec, source: Source) -> None:
    assert source.events is not None
    log = source.examples
    trained = Histories(source.events, log.user, log.time_ms, spec)
    logged = {
        bytes(key): value
        for part in StreamReader(plant.folder / "stream").read()
        for key, value in zip(part.key, part.seen, strict=True)
    }
    told = [logged[each.key] for each in plant.world.impressions]
    checked = 0
    for row in np.flatnonzero(log.user != MISSING)[FIRST:]:
        value = told[row]
        history = unpack(value) if value else History.empty(8, source.events.codec)
        served = row_of(inputs_at(history, int(log.time_ms[row]), delay_ms=spec.delay_ms, length=spec.length))
        np.testing.assert_array_equal(trained.rows(np.array([row])), served)
        checked += bool(served.any())
    assert checked > 20  # most of them had one


def test_the_store_gives_any_row_its_history_afterwards(plant: Any, source: Source) -> None:
    assert source.events is not None
    log, spec = source.examples, HistorySpec(4, 8, 3_600_000)
    trained = Histories(source.events, log.user, log.time_ms, spec).rows(np.arange(len(log)))
    store = LmdbStore(plant.folder / "store")
    for row in range(len(log)):
        history = store.read(int(log.user[row]))
        assert history is not None
        served = row_of(inputs_at(history, int(log.time_ms[row]), delay_ms=spec.delay_ms, length=spec.length))
        np.testing.assert_array_equal(trained[row : row + 1], served)
    store.close()
    assert trained.any(1).mean() > 0.5

"""What a stored history becomes for a student that reads some embedding spaces only."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from exfm.features.embeddings import quantise
from exfm.features.history import History, inputs_at, pack, row_of
from exfm.features.schema import HistorySpec
from exfm.features.signature import HISTORY
from serving.features.histories import Histories
from serving.features.lookup import HistoryLookup, LookupOptions
from serving.query import RankQuery

OLD, NEW = 7, 8


class Holding:
    """A store with one value."""

    def __init__(self, value: bytes) -> None:
        self.value = value

    def get(self, user: int) -> bytes:  # noqa: ARG002  # the protocol's
        return self.value

    def close(self) -> None:
        pass


def history(*spaces: int) -> History:
    codes = quantise(np.random.default_rng(0).uniform(-1, 1, (len(spaces), 3)).astype(np.float32), "int8")
    numbers = np.arange(len(spaces))
    return History(numbers.astype(np.int64), numbers.astype(np.uint64), np.array(spaces, np.uint32), codes, 3, "int8")


@pytest.mark.parametrize(
    ("stored", "spaces", "seen", "found"),
    [
        ((OLD, NEW, OLD), (OLD,), [0, 2], "hit"),
        ((OLD, NEW, OLD), (), [0, 1, 2], "hit"),
        ((OLD, NEW, OLD), (OLD, NEW), [0, 1, 2], "hit"),
        ((NEW, NEW), (OLD,), [], "other_space"),
        ((), (OLD,), [], "hit"),
    ],
)
async def test_only_events_of_the_students_own_spaces_count(
    stored: tuple[int, ...], spaces: tuple[int, ...], seen: list[int], found: str
) -> None:
    kept, spec = history(*stored), HistorySpec(4, 3, 0, spaces)
    lookup = HistoryLookup(lambda: Holding(pack(kept)), LookupOptions(share=1.0, most_s=10.0))
    made = Histories(lookup, clock=lambda: 1000)
    made.start()
    vertical: Any = SimpleNamespace(schema=SimpleNamespace(history=spec), user_column=0)
    nobody = np.empty(0, np.int64)
    query = RankQuery("r", vertical, {"request_ids": np.array([[5]], np.int64)}, nobody, np.empty(0))
    done = await made.complete(query, 10.0)
    made.close()
    told = kept.take(np.array(seen, np.int64))
    np.testing.assert_array_equal(done.inputs[HISTORY], row_of(inputs_at(told, 1000, delay_ms=0, length=4)))
    assert done.history == (pack(told) if found == "hit" else b"")  # what is logged is what was scored with
    assert {name: count for name, count in lookup.found.items() if count} == {found: 1}

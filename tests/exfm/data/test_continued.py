from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exfm.data.continued import ContinuationError, continued
from exfm.data.histories import Histories
from exfm.data.source import Source
from exfm.features.history import History
from exfm.features.schema import HistorySpec, Vertical


@pytest.fixture
def pair(tiny: Callable[..., Source]) -> tuple[Source, Source]:
    """A log, and a stream that goes on a week later, with embeddings, annotations and without the truth."""
    log, later = tiny(50), tiny(30, 1)
    examples = replace(
        later.examples,
        time_ms=later.examples.time_ms + 7 * 86_400_000,
        truth={},
        annotations={"click": np.full(30, 0.5, np.float32)},
    )
    codes = np.ones((30, 4), np.uint8)
    events = History(examples.time_ms, np.arange(30, dtype=np.uint64), np.ones(30, np.uint32), codes, 4, "int8")
    return log, replace(later, examples=examples, events=events)


def test_the_rows_follow_each_other_with_what_either_has(pair: tuple[Source, Source]) -> None:
    log, stream = pair
    made = continued(log, stream)
    assert len(made.examples) == 80
    np.testing.assert_array_equal(made.examples.user[50:], stream.examples.user)
    assert np.isnan(made.examples.annotations["click"][:50]).all()
    assert (made.examples.annotations["click"][50:] == 0.5).all()
    assert np.isnan(made.examples.truth["click"][50:]).all()
    np.testing.assert_array_equal(made.examples.truth["click"][:50], log.examples.truth["click"])


def test_only_the_streams_rows_are_in_histories(pair: tuple[Source, Source]) -> None:
    made = continued(*pair)
    assert made.events is not None
    past = Histories(made.events, made.examples.user, made.examples.time_ms, HistorySpec(5, 4))
    seen = past.seen(np.arange(80))
    assert (seen[:50] == -1).all()
    assert (seen[50:] >= 50).any()
    assert (seen[(seen >= 0)] >= 50).all()


def test_what_does_not_fit_is_refused(pair: tuple[Source, Source]) -> None:
    log, stream = pair
    other: Any = replace(stream.schema, verticals=(Vertical("clicks", ("click",)),))
    for wrong, message in (
        (replace(stream, schema=other), "schema"),
        (replace(stream, events=None), "no embeddings"),
        (replace(stream, examples=log.examples), "before the log ends"),
    ):
        with pytest.raises(ContinuationError, match=message):
            continued(log, wrong)

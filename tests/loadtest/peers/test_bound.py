import pytest

from loadtest.peers.bound import bound_of, only_spoiled_below
from loadtest.peers.trial import Trial


def tried(rate_rps: float, share: float, sound: bool = True) -> Trial:
    return Trial(rate_rps, 1.0, 100, 0.0, 0.0, 0.0, share, 1.0, 2.0, {}, {}, 0.1, 0.2, sound)


HELD = tried(100.0, 1.0)
PROBED, SPOILED = tried(110.0, 0.9), tried(110.0, 0.9, sound=False)


@pytest.mark.parametrize(
    ("made", "bound"),
    [
        ([HELD], None),
        ([HELD, tried(200.0, 0.5)], (200.0, True)),
        # What a probe failed at before the confirmation was gone past since.
        ([HELD, SPOILED, SPOILED, HELD, HELD, tried(125.0, 0.9)], (125.0, True)),
        ([HELD, PROBED, PROBED, HELD, HELD, tried(125.0, 0.9, sound=False)], (125.0, False)),
        # Of several at one rate neither the first nor the last, but the one that is the system's.
        ([HELD, tried(125.0, 0.9, sound=False), tried(125.0, 0.9)], (125.0, True)),
        ([HELD, tried(125.0, 0.9), tried(125.0, 0.9, sound=False)], (125.0, True)),
        ([HELD, tried(156.0, 0.1, sound=False), tried(125.0, 0.9)], (125.0, True)),
        ([HELD, tried(125.0, 0.9), tried(156.0, 0.1, sound=False)], (125.0, True)),
        # A try that failed at the rate that was found, and one that held above it, bound nothing.
        ([HELD, tried(100.0, 0.9), HELD, tried(125.0, 1.0), tried(125.0, 0.98)], (125.0, True)),
    ],
)
def test_the_bound_is_the_least_rate_that_failed_once_the_capacity_was_confirmed(
    made: list[Trial], bound: tuple[float, bool] | None
) -> None:
    found = bound_of(made, 100.0)
    assert (found and (found.rate_rps, found.sound)) == bound


def test_without_a_capacity_the_least_rate_tried_is_the_bound() -> None:
    spoiled = tried(2.0, 0.5, sound=False)
    assert bound_of([tried(4.0, 0.1), spoiled, tried(3.0, 0.1)], 0.0) is spoiled


@pytest.mark.parametrize(
    ("tries", "only"),
    [
        ([SPOILED, SPOILED], True),
        ([SPOILED, PROBED], False),
        ([PROBED], False),
        ([tried(110.0, 1.0, sound=False)], False),
        ([tried(130.0, 0.9, sound=False)], False),
    ],
)
def test_where_the_generator_alone_spoke_against_a_rate_the_capacity_may_be_more(
    tries: list[Trial], only: bool
) -> None:
    assert only_spoiled_below([HELD, *tries, HELD, tried(125.0, 0.9)], 100.0, 125.0) is only

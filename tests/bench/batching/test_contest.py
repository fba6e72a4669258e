"""Names of variants."""

import pytest

from bench.batching.contest import Entrant, entrant


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("triton", (None, 8, None)),
        ("triton<=12", (None, 8, 12)),
        ("edf-2", (2, 8, None)),
        ("edf-3x1", (3, 1, None)),
        ("edf-2x4<=6", (2, 4, 6)),
    ],
)
def test_a_name_says_everything(name: str, expected: tuple[int | None, int, int | None]) -> None:
    slots, most, bound = expected
    assert entrant(name) == Entrant(name, slots, most, bound)
    assert entrant(name).jagged == (slots is not None)


@pytest.mark.parametrize("name", ["", "edf", "edf-0", "triton<=0", "triton-2", "edf-2x", "edf-2-p99", "triton "])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is none of"):
        entrant(name)

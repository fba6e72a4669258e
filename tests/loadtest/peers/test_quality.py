from dataclasses import replace
from typing import Any

import pytest

from loadtest.peers.model import Model
from loadtest.peers.quality import fault_of, quality_of, told


def claiming(model: Model, **claims: Any) -> Model:
    return replace(model, manifest={**model.manifest, **claims})


def test_the_gap_is_a_share_of_the_naive_ones_and_counts_the_engines_loss(student: Model) -> None:
    ours = claiming(student, quality={"ne": 0.80}, engine="int8", parity={"ne_loss": 0.01})
    made = quality_of(ours, claiming(student, quality={"ne": 0.85}))
    assert made["ne_gap"] == pytest.approx(0.80 * 1.01 / 0.85 - 1)
    assert (made["ne_student"], made["ne_naive"], made["engine"]) == (0.80, 0.85, "int8")
    assert "-4.94%" in told(made)
    assert "0.8500 (naive" in told(made)


def test_a_model_that_claims_nothing_is_not_compared(student: Model, naive_model: Model) -> None:
    assert quality_of(student, naive_model) == {}
    assert "not compared" in told({})
    assert "not compared" in fault_of({})


@pytest.mark.parametrize(("ne", "equal"), [(0.7, True), (0.8007, True), (0.801, False)])
def test_a_gap_beyond_the_bound_is_no_equal_quality(student: Model, ne: float, equal: bool) -> None:
    made = quality_of(claiming(student, quality={"ne": ne}), claiming(student, quality={"ne": 0.8}))
    assert (fault_of(made) == "") is equal
    assert ("within the bound of +0.1%" in told(made)) is equal

"""What every law promises, run over every law."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.admission.aimd import AimdLaw
from serving.admission.choose import LAWS, law_for
from serving.admission.fixed import FixedLaw
from serving.admission.gradient import GradientLaw
from serving.admission.law import Bounds, Law, Sample

BOUNDS = Bounds(0.005, 0.1)
MAKE: dict[str, Callable[[], Law]] = {
    "fixed": lambda: FixedLaw(0.05),
    "aimd": lambda: AimdLaw(0.05, BOUNDS),
    "gradient": lambda: GradientLaw(0.05, BOUNDS, floor_s=0.005, ceiling_s=0.02),
}
ADAPTIVE = ("aimd", "gradient")
SECONDS = st.floats(0, 1e6) | st.floats(0, 0.1)
SAMPLES = st.builds(Sample, SECONDS, SECONDS, SECONDS, st.booleans())


def good(law: Law, cost_s: float = 0.005) -> Sample:
    """Done as fast as predicted, with the limit filled."""
    return Sample(cost_s, cost_s, law.limit_s)


def lost(law: Law, cost_s: float = 0.005) -> Sample:
    return Sample(0.02, cost_s, law.limit_s, dropped=True)


@pytest.fixture(params=MAKE)
def law(request: pytest.FixtureRequest) -> Law:
    return MAKE[request.param]()


@pytest.fixture(params=ADAPTIVE)
def adaptive(request: pytest.FixtureRequest) -> Law:
    return MAKE[request.param]()


@pytest.mark.parametrize("name", MAKE)
@given(samples=st.lists(SAMPLES, max_size=60))
def test_the_limit_is_always_a_number_within_its_bounds_and_never_raised_by_a_loss(
    name: str, samples: list[Sample]
) -> None:
    law = MAKE[name]()
    for sample in samples:
        before_s = law.limit_s
        after_s = law.update(sample)
        assert after_s == law.limit_s
        assert math.isfinite(after_s)
        assert BOUNDS.least_s <= after_s <= BOUNDS.most_s
        assert not (sample.dropped and after_s > before_s)


@pytest.mark.parametrize("name", MAKE)
@given(samples=st.lists(SAMPLES, max_size=30))
def test_a_limit_that_was_not_tried_does_not_grow(name: str, samples: list[Sample]) -> None:
    law = MAKE[name]()
    for sample in samples:
        before_s = law.limit_s
        idle = Sample(sample.latency_s, sample.expected_s, before_s * 0.49, sample.dropped)
        assert law.update(idle) <= before_s


@given(samples=st.lists(SAMPLES, max_size=30))
def test_the_same_samples_give_the_same_limit(samples: list[Sample]) -> None:
    for make in MAKE.values():
        one, other = make(), make()
        assert [one.update(sample) for sample in samples] == [other.update(sample) for sample in samples]


@given(samples=st.lists(SAMPLES, max_size=30))
def test_a_fixed_law_is_fixed(samples: list[Sample]) -> None:
    law = FixedLaw(0.05)
    assert {law.update(sample) for sample in samples} <= {0.05}


def test_losses_go_down_to_the_floor_and_good_samples_back_up_again(adaptive: Law) -> None:
    start_s = adaptive.limit_s
    for _ in range(3000):
        adaptive.update(lost(adaptive))
    assert adaptive.limit_s == BOUNDS.least_s
    windows = 0.0
    while adaptive.limit_s < start_s and windows < 60:
        windows += 0.005 / adaptive.limit_s
        adaptive.update(good(adaptive))
    assert adaptive.limit_s >= start_s


def test_the_losses_of_one_window_are_one_cut(adaptive: Law) -> None:
    before_s = adaptive.limit_s
    for _ in range(10):
        adaptive.update(lost(adaptive, before_s / 9.99))
    assert adaptive.limit_s == pytest.approx(before_s * 0.9)
    adaptive.update(lost(adaptive))
    assert adaptive.limit_s == pytest.approx(before_s * 0.81)


def test_a_window_moves_the_limit_alike_whatever_the_sizes_in_it(adaptive: Law, request: pytest.FixtureRequest) -> None:
    fine = MAKE[request.node.callspec.params["adaptive"]]()
    before_s = adaptive.limit_s
    for _ in range(4):
        adaptive.update(Sample(0.001, before_s / 4, before_s))
    for _ in range(400):
        fine.update(Sample(0.001, before_s / 400, before_s))
    assert adaptive.limit_s > before_s
    assert fine.limit_s - before_s == pytest.approx(adaptive.limit_s - before_s, rel=0.1)


def test_the_gradient_shrinks_when_latency_is_past_the_target_without_any_loss() -> None:
    law = MAKE["gradient"]()
    for _ in range(200):
        law.update(Sample(0.1, 0.005, law.limit_s))
    assert law.limit_s < 0.01


def test_a_prediction_that_drifts_with_the_latency_does_not_ratchet_the_gradient() -> None:
    law = MAKE["gradient"]()
    for _ in range(500):
        latency_s = law.limit_s  # one server at the predicted speed
        law.update(Sample(latency_s, latency_s, law.limit_s))
    assert law.limit_s == pytest.approx(0.02 + 0.002, rel=0.1)  # ceiling and headroom: no higher


@pytest.mark.parametrize(
    "values",
    [(math.nan, 0.1, 0.1), (0.1, math.inf, 0.1), (0.1, 0.1, -0.1)],
    ids=["latency", "expected", "in_flight"],
)
def test_a_sample_of_anything_but_seconds_is_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="seconds"):
        Sample(*values)


@pytest.mark.parametrize("pair", [(0.0, 1.0), (2.0, 1.0), (1.0, math.inf), (math.nan, 1.0)])
def test_bounds_that_bound_nothing_are_refused(pair: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="bounds"):
        Bounds(*pair)


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="cut"):
        AimdLaw(0.05, BOUNDS, cut=1.0)
    with pytest.raises(ValueError, match="floor"):
        GradientLaw(0.05, BOUNDS, floor_s=0.02, ceiling_s=0.01)
    with pytest.raises(ValueError, match="tolerance"):
        GradientLaw(0.05, BOUNDS, floor_s=0.01, ceiling_s=0.02, tolerance=0.9)
    with pytest.raises(ValueError, match="no law 'pid'"):
        law_for("pid", 0.025)


@pytest.mark.parametrize("name", LAWS)
def test_every_named_law_scales_with_the_backend(name: str) -> None:
    assert law_for(name, 0.025, 4).limit_s == pytest.approx(4 * law_for(name, 0.025).limit_s)

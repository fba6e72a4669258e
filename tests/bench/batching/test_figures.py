"""Runs summed up by hand."""

import numpy as np
import pytest

from bench.batching.figures import Cost, Sample, best, ratios, sample, spread, summaries
from loadtest.driving.open_loop import Reply
from serving.errors import BusyError
from serving.inference.scorer import Scores

COST = Cost(client_cpu_s=1.0, triton_cpu_s=2.0, other_cpu_s=0.5, wall_s=2.0, scored=4, calls=2)


def reply(latency_s: float, answer: Exception | None = None) -> Reply[Scores]:
    return Reply(latency_s, 0.0, answer or Scores(np.zeros((1, 1), np.float32)))


def made(variant: str, turn: int, goodput_rps: float, multiple: float = 2.0) -> Sample:
    replies = [reply(0.01)] * round(goodput_rps)
    return sample(
        (variant, multiple, turn), replies or [reply(0.01, TimeoutError())], [0.02] * max(1, len(replies)), 1.0, COST
    )


def test_each_request_ends_one_way() -> None:
    replies = [
        reply(0.010),
        reply(0.030),
        reply(0.001, BusyError("full")),
        reply(0.030, BusyError("full, too late")),
        reply(0.025, TimeoutError()),
        reply(0.001, RuntimeError("broken")),
        reply(0.014),
        reply(0.012),
    ]
    one = sample(("triton", 2.0, 0), replies, [0.02] * 8, 2.0, COST)
    assert one.offered_rps == 4.0
    assert (one.goodput_rps, one.goodput_per_cpu_s) == (1.5, 1.0)
    assert (one.late_share, one.fell_back_share, one.failed_share) == (3 / 8, 1 / 8, 1 / 8)
    assert one.p50_ms == pytest.approx(13.0)
    assert one.p99_ms == pytest.approx(29.52, abs=0.01)
    assert (one.batch, one.wasted_share) == (2.0, 0.25)
    assert (one.client_cpu_share, one.triton_cpu_share, one.other_cpu_share) == (0.5, 1.0, 0.25)


def test_each_request_is_held_to_its_own_budget() -> None:
    assert sample(("a", 1.0, 0), [reply(0.01)] * 2, [0.005, 0.02], 1.0, COST).goodput_rps == 1.0


def test_a_run_without_answers_has_no_latency_and_no_batch() -> None:
    one = sample(("a", 1.0, 0), [reply(0.03, TimeoutError())], [0.02], 1.0, Cost(1, 1, 1, 1, 0, 0))
    assert (one.p50_ms, one.p99_ms, one.batch, one.wasted_share) == (None, None, None, None)
    assert one.late_share == 1.0


def test_ratios_are_taken_within_a_round() -> None:
    samples = [made("base", 0, 10), made("other", 0, 20), made("base", 1, 100), made("other", 1, 100)]
    entry = ratios(samples, "base")[1]
    assert entry["variant"] == "other"
    assert entry["goodput_ratio"] == {"median": 1.5, "min": 1.0, "max": 2.0}
    assert entry["goodput_per_cpu_ratio"] == {"median": 1.5, "min": 1.0, "max": 2.0}


def test_a_round_in_which_the_reference_answered_nothing_has_no_ratio() -> None:
    (_, entry) = ratios([made("base", 0, 0), made("other", 0, 20)], "base")
    assert entry["goodput_ratio"] is None


def test_the_best_of_a_family_is_found_under_overload() -> None:
    samples = [made("a", 0, 50, 1.0), made("b", 0, 40, 1.0), made("a", 0, 10), made("b", 0, 20), made("c", 0, 90)]
    assert best(samples, ["a", "b"]) == "b"
    assert best(samples[:2], ["a", "b"]) == "a"


def test_summaries_hold_the_median_and_the_ends() -> None:
    (one,) = summaries([made("a", turn, rps) for turn, rps in enumerate((10, 30, 20))])
    assert (one["runs"], one["goodput_rps"]) == (3, {"median": 20.0, "min": 10.0, "max": 30.0})


def test_the_spread_of_nothing_is_nothing() -> None:
    assert spread([None]) is None
    assert spread([None, 2.0]) == {"median": 2.0, "min": 2.0, "max": 2.0}

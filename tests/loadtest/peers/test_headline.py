"""The sentences that stand first: computed, and honest whoever comes first."""

from typing import Any

import pytest

from loadtest.peers.headline import headline

QUALITY = {"task": "click", "ne_student": 0.8, "ne_naive": 0.8, "engine": "int8", "ne_gap": 0.0}


def result(ours: list[float], best: list[float], **more: Any) -> dict[str, Any]:
    """Of exfm and fastapi, with another peer that is slower than both."""
    capacity = {"exfm": ours, "fastapi": best, "ray": [1.0] * len(best)}
    return {"budget_ms": 25.0, "capacity_rps": capacity, "goodput_rps": {}, "quality": QUALITY, **more}


def test_who_is_not_first_is_told_so_with_how_much_is_missing() -> None:
    first = headline(result([704.0, 706.0], [716.0, 720.0]))[0]
    assert first == "fastapi holds 718/s with p99 within 25 ms, exfm 705/s: 0.98 of it, place 2 of 3"


def test_who_is_first_is_told_so() -> None:
    first = headline(result([1400.0, 1472.0], [700.0, 736.0]))[0]
    assert first == "exfm holds 1436/s with p99 within 25 ms, 2.00 times what the best peer does, 718/s (fastapi)"


@pytest.mark.parametrize(
    ("ours", "best", "words"),
    [
        ([700.0, 760.0], [716.0, 720.0], "their repeats overlap, so which is larger is open"),
        ([700.0], [716.0], "Some figures are of one repeat"),
    ],
)
def test_what_the_repeats_leave_open_is_said(ours: list[float], best: list[float], words: str) -> None:
    assert any(words in text for text in headline(result(ours, best)))
    assert not any(words in text for text in headline(result([100.0, 101.0], [716.0, 720.0])))


@pytest.mark.parametrize(
    ("bounded", "words"),
    [
        (["exfm"], "exfm at least 350/s: at least 0.50 of it"),
        (["fastapi"], "fastapi holds at least 700/s with p99 within 25 ms, exfm 350/s: at most 0.50 of it"),
        (["exfm", "fastapi"], "exfm at least 350/s: about 0.50 of it"),
    ],
)
def test_a_capacity_that_is_a_lower_bound_makes_the_ratio_one(bounded: list[str], words: str) -> None:
    assert words in headline(result([350.0], [700.0], capacity_at_least=bounded))[0]


def test_goodput_is_set_beside_the_best_at_that_multiple_whoever_that_is() -> None:
    good = {
        "exfm": {"1x": [90.0, 92.0], "2x": [60.0, 60.0]},
        "exfm_same_onnx": {"1x": [500.0, 500.0]},
        "fastapi": {"1x": [100.0, 100.0], "2x": [10.0, 10.0]},
        "ray": {"1x": [1.0, 1.0], "2x": [30.0, 30.0]},
    }
    full = {"exfm": {"1x": [80.0, 82.0], "2x": [60.0, 60.0]}}
    said = headline(result([90.0, 90.0], [100.0, 100.0], goodput_rps=good, full_goodput_rps=full))
    assert said[1] == (
        "At 1x of that peer's capacity exfm has 91/s good (81/s by its full model), the best peer 100/s (fastapi): "
        "0.91 of it"
    )
    assert said[2] == "At 2x of that peer's capacity exfm has 60/s good, the best peer 30/s (ray): 2.00 times as much"


def test_a_peer_without_any_goodput_makes_no_ratio() -> None:
    good = {"exfm": {"4x": [9.0]}, "fastapi": {"4x": [0.0]}}
    assert headline(result([9.0], [8.0], goodput_rps=good))[1].endswith("the best peer 0/s (fastapi)")


def test_the_same_file_is_stated_apart() -> None:
    made = result([90.0, 90.0], [100.0, 100.0])
    made["capacity_rps"]["exfm_same_onnx"] = [50.0, 50.0]
    apart = [text for text in headline(made) if text.startswith("With the very ONNX file that the peers serve: ")]
    assert len(apart) == 1
    assert "exfm_same_onnx 50/s: 0.50 of it, place 3 of 4" in apart[0]


def test_what_is_missing_is_said_and_made_up_for_by_nothing() -> None:
    without = result([], [100.0, 100.0])
    assert headline(without)[0] == "exfm has no capacity measured; the best peer's is 100/s (fastapi)"
    alone = {"capacity_rps": {"exfm": [90.0]}, "goodput_rps": {}}
    assert headline(alone)[0] == "exfm holds 90/s; no peer has a capacity to set beside it"
    assert headline({"capacity_rps": {}, "goodput_rps": {}})[0] == "exfm has no capacity measured"


def test_neighbours_that_take_time_are_told_of() -> None:
    stolen = {"exfm": [0.001, 0.12], "ray": [0.003, None]}
    last = headline(result([9.0], [8.0], stolen_share=stolen))[-1]
    assert "0.3% of the CPU time (median of the turns), at most 12.0% (a turn of exfm): MORE THAN 2%" in last
    assert "MORE THAN" not in headline(result([9.0], [8.0], stolen_share={"exfm": [0.001]}))[-1]

"""Each target can be missed, and is then named; what a run reports and holds is fine."""

from copy import deepcopy
from typing import Any

import pytest

from bench.scale.targets import missed

GOOD: dict[str, Any] = {
    "logs": {},
    "jetstream": {"acked_lost": 0, "duplicates": 0},
    "plane": {"lost_outcomes": 0, "duplicates": 0, "unaccounted": 0, "store_wrong": 0},
    "frontends": {"via": {"envoy": {"failed": 2, "killed_in_flight": 2}}},
    "valkey": {
        "late_delta": 0.0005,
        "rank_well": {"late_share_interval": [0.0, 0.0013]},
        "rank_killed": {"late_share_interval": [0.0001, 0.002]},
    },
    "ray": {"annotated_once": True, "efficiency": {"local": {"1": 0.99}, "ray": {"1": 0.95, "2": 0.9}}},
    "torchrec": {"max_diff": 6e-8, "annotation": {"max_diff": 1e-7}},
    "planner": {"ratio": 1.29},
}


def test_what_holds_is_fine() -> None:
    assert missed(GOOD) == []
    assert missed({}) == []


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("jetstream.acked_lost", 1, "acked_lost is 1, must be 0"),
        ("jetstream.duplicates", 2, "duplicates is 2, must be 0"),
        ("plane.unaccounted", 3, "unaccounted is 3, must be 0"),
        ("frontends.via.envoy.failed", 3, "envoy: failed is 3, with 2 in flight"),
        ("valkey.rank_killed.late_share_interval", [0.0014, 0.004], "late_delta is 0.0005"),
        ("ray.annotated_once", False, "an example was not annotated, or not once"),
        ("ray.efficiency.ray.2", 0.87, "efficiency of ray:2 is 0.870, must be 0.9"),
        ("torchrec.max_diff", 2e-6, "max_diff is 2e-06, may be 1e-06"),
        ("torchrec.annotation.max_diff", float("nan"), "annotation: max_diff is nan"),
        ("planner.ratio", 1.31, "ratio of predicted to measured is 1.310, may be 30% off"),
        ("planner.ratio", 0.69, "ratio of predicted to measured is 0.690"),
    ],
)
def test_what_is_missed_is_said(place: str, value: object, said: str) -> None:
    result = deepcopy(GOOD)
    *way, last = place.split(".")
    within = result
    for name in way:
        within = within[name]
    within[last] = value
    (line,) = missed(result)
    assert line.startswith(f"{way[0]}: {said}")


def test_a_figure_that_is_not_there_is_not_taken_for_a_good_one() -> None:
    with pytest.raises(KeyError, match="ratio"):
        missed({"planner": {}})

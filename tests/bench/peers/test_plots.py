"""The plots: medians, and beside them every repeat."""

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from bench.peers.plots import capacity, draw_capacity, draw_goodput, goodput

RESULT: dict[str, Any] = {
    "best_peer": {"name": "mosec", "capacity_rps": 100.0, "ours": False},
    "capacity_rps": {"exfm": [290.0, 310.0], "mosec": [100.0, 100.0]},
    "capacity_at_least": ["exfm"],
    "goodput_rps": {"exfm": {"4x": [280.0, 284.0], "1x": [99.0, 101.0]}, "mosec": {"1x": [95.0, 97.0], "4x": []}},
    "full_goodput_rps": {"exfm": {"1x": [99.0, 101.0], "4x": [200.0, 210.0]}},
}


def points(line: Any) -> list[tuple[float, float]]:
    """Of one line, in its order."""
    return [(x, y) for x, y in np.transpose(line.get_data()).tolist()]


def drawn(axes: Any, marker: str) -> list[list[tuple[float, float]]]:
    """The points of all lines with that marker."""
    return [sorted(points(line)) for line in axes.lines if line.get_marker() == marker]


def test_every_goodput_repeat_is_a_mark_beside_its_median() -> None:
    axes = Figure().subplots()
    draw_goodput(axes, RESULT)
    exfm = [(100.0, 99.0), (100.0, 101.0), (400.0, 280.0), (400.0, 284.0)]
    full = [(100.0, 99.0), (100.0, 101.0), (400.0, 200.0), (400.0, 210.0)]
    assert drawn(axes, "_") == [exfm, full, [(100.0, 95.0), (100.0, 97.0)]]
    lines = {line.get_label(): points(line) for line in axes.lines}
    assert lines["exfm"] == [(100.0, 100.0), (400.0, 282.0)]
    assert lines["exfm, full model"] == [(100.0, 100.0), (400.0, 205.0)]
    assert lines["mosec"] == [(100.0, 96.0)]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1x\n100/s", "4x\n400/s"]


def test_every_capacity_repeat_is_a_mark_and_a_lower_bound_is_called_one() -> None:
    axes = Figure().subplots()
    draw_capacity(axes, RESULT["capacity_rps"], ["exfm"])
    marks = {tuple(np.array(line.get_xdata()).tolist()) for line in axes.lines}
    assert marks == {(290.0, 310.0), (100.0, 100.0)}
    assert {text.get_text().strip() for text in axes.texts} == {"at least 300", "100"}


def test_the_texts_stay_texts() -> None:
    assert "at least 300" in capacity(RESULT)
    made = goodput(RESULT)
    assert made.startswith("<svg")
    assert ">4x<" in made
    assert goodput(RESULT) == made


@pytest.mark.parametrize("best", [None, RESULT["best_peer"]])
def test_nothing_to_draw_is_an_empty_plot(best: dict[str, Any] | None) -> None:
    assert goodput({"best_peer": best, "goodput_rps": {}}).startswith("<svg")

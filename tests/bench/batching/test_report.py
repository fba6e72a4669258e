"""The table, from a run made by hand."""

import numpy as np

from bench.batching.figures import Cost, ratios, sample, summaries
from bench.batching.report import HEADER, table
from loadtest.driving.open_loop import Reply
from serving.inference.scorer import Scores


def test_every_variant_has_a_row_and_what_was_not_measured_a_dash() -> None:
    scores = Scores(np.zeros((1, 1), np.float32))
    cost = Cost(1.0, 1.0, 0.0, 1.0, 2, 1)
    samples = [
        sample(("triton", 2.0, 0), [Reply(0.01, 0.0, scores)] * 2, [0.02] * 2, 1.0, cost),
        sample(("edf-2", 2.0, 0), [Reply(0.03, 0.0, TimeoutError())], [0.02], 1.0, Cost(1.0, 1.0, 0.0, 1.0, 0, 0)),
    ]
    made = {"summaries": summaries(samples), "ratios": ratios(samples, "triton"), "base_rps": [1.4]}
    text = table({**made, "vertical": "feed", "candidates": 5, "budget_ms": 25.0, "processors": 2})
    head, _, header, _, first, second = text.splitlines()
    assert "feed: 5 candidates" in head
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, first, second)]
    assert tuple(cells[0]) == HEADER
    assert cells[1][:5] == ["2x", "triton", "2.0", "2-2", "1.00"]
    assert cells[2][1] == "edf-2"
    assert cells[2][HEADER.index("late %")] == "100.0"
    assert cells[2][HEADER.index("p50 ms")] == "-"

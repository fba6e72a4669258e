import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exfm.distill.report import SMOOTHED, smooth, write_report
from exfm.distill.scoring import TaskReport, TrainingReport

CHUNK = {
    "time_ms": 0,
    "rows": 0,
    "auc": None,
    "ne": None,
    "calibration": None,
    "ne_no_distill": None,
    "teacher_ne": None,
}
UNKNOWN: dict[str, Any] = dict.fromkeys(TaskReport.__dataclass_fields__)
EMPTY = TaskReport(**{**UNKNOWN, "rows": 0, "chunks": [CHUNK]})


def test_smoothing_is_the_mean_weighted_by_rows_over_the_latest_ones() -> None:
    values, rows = np.array([1.0, 2.0, math.nan, 6.0]), np.array([100.0, 300.0, 500.0, 100.0])
    np.testing.assert_allclose(smooth(values, rows), [1.0, 1.75, 1.75, 2.6])


def test_smoothing_forgets_what_is_far_back() -> None:
    values, rows = np.array([100.0, 1.0, 1.0]), np.full(3, SMOOTHED / 2)
    assert smooth(values, rows)[-1] == pytest.approx(1.0)


def test_a_run_without_any_defined_figure_is_still_reported(tmp_path: Path) -> None:
    report = TrainingReport("tiny", 0.1, 0, {"v": {"click": EMPTY}, "w": {"buy": replace(EMPTY, bayes_ne=0.8)}})
    metrics, picture = write_report(report, tmp_path / "deep" / "run")
    assert '"auc": null' in metrics.read_text()
    assert picture.stat().st_size > 1000

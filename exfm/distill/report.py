"""A finished run on paper: `metrics.json` for machines, `learning.png` for people."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from exfm.distill.scoring import TaskReport, TrainingReport

SMOOTHED = 8_000
"""Rows over which the curves average; a single chunk is too noisy to show a difference."""
CURVES = (("ne_no_distill", "without a teacher", "0.6"), ("ne", "student", "C0"), ("teacher_ne", "teacher", "C1"))


def write_report(report: TrainingReport, out: Path) -> list[Path]:
    """Write both files into `out`, which is made if need be."""
    out.mkdir(parents=True, exist_ok=True)
    metrics, picture = out / "metrics.json", out / "learning.png"
    metrics.write_text(json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    draw(report, picture)
    return [metrics, picture]


def draw(report: TrainingReport, path: Path) -> None:
    """Normalized entropy over the stream, a panel per vertical and task."""
    panels = [(name, task, each) for name, tasks in report.verticals.items() for task, each in tasks.items()]
    figure = Figure(figsize=(5.2 * len(panels), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, task, each) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _panel(axes, each)
        axes.set_title(f"{name}: {task}")
    figure.suptitle(f"{report.data}: each row predicted before it was learned, {report.rows:,} rows")
    figure.savefig(path, dpi=110)


def _panel(axes: Axes, report: TaskReport) -> None:
    hours = np.array([chunk["time_ms"] for chunk in report.chunks], np.float64) / 3_600_000
    rows = np.array([chunk["rows"] for chunk in report.chunks], np.float64)
    lows: list[float] = []
    highs: list[float] = []
    for key, label, colour in CURVES:
        curve = smooth(np.array([_float(chunk[key]) for chunk in report.chunks]), rows)
        axes.plot(hours - hours[:1], curve, label=label, color=colour, linewidth=1.4)
        settled = curve[len(curve) // 10 :]
        if np.isfinite(settled).any():
            lows.append(float(np.nanmin(settled)))
            highs.append(float(np.nanmax(settled)))
    if report.bayes_ne is not None:
        axes.axhline(report.bayes_ne, color="C2", linestyle=":", label="best possible, last day")
        lows.append(report.bayes_ne)
        highs.append(report.bayes_ne)
    if lows:
        # The first rows, learned from nothing, would squeeze everything else flat.
        axes.set_ylim(min(lows) - 0.01, max(highs) + 0.03)
    axes.set_xlabel("hours since the first impression")
    axes.set_ylabel("normalized entropy (lower is better)")
    axes.legend(fontsize=8)


def smooth(values: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean weighted by rows over the latest `SMOOTHED` rows; NaN chunks do not count."""
    weight = np.where(np.isfinite(values), rows, 0.0)
    sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(values) * weight)])
    weights = np.concatenate([[0.0], np.cumsum(weight)])
    first = np.searchsorted(weights[1:], weights[1:] - SMOOTHED, side="right")
    span = weights[1:] - weights[first]
    smooth: NDArray[np.float64] = np.divide(
        sums[1:] - sums[first], span, out=np.full(len(values), np.nan), where=span > 0
    )
    return smooth


def _float(value: Any) -> float:
    return np.nan if value is None else float(value)

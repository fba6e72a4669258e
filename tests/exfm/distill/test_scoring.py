import json

import numpy as np
import pytest

from exfm.distill.scoring import Predictions, TaskReport, TrainingReport


@pytest.fixture
def made() -> Predictions:
    draw = np.random.default_rng(0)
    truth = draw.uniform(0.1, 0.9, (300, 2)).astype(np.float32)
    labels = (draw.random((300, 2)) < truth).astype(np.float32)
    labels[:10] = 0
    vague = np.full_like(truth, 0.5)
    return Predictions(
        tasks=("click", "buy"),
        time_ms=np.arange(300),
        labels=labels,
        truth=truth,
        arms={"student": truth, "plain": vague, "teacher": truth, "prior": vague, "lite": truth},
        chunks=[slice(0, 10), slice(10, 10), slice(10, 300)],
        last_day=slice(100, 300),
    )


def test_figures_are_of_the_last_day(made: Predictions) -> None:
    report = TaskReport.of(made, 0)
    assert report.rows == 200
    assert report.auc is not None
    assert report.auc > 0.6
    assert report.auc_no_distill == 0.5
    assert report.ne == report.teacher_ne == report.bayes_ne
    assert report.ne is not None
    assert report.ne_no_distill is not None
    assert report.ne < 1 <= report.ne_no_distill


def test_the_lite_students_figures_stand_beside_the_full_ones(made: Predictions) -> None:
    report = TaskReport.of(made, 0)
    assert (report.lite_auc, report.lite_ne) == (report.auc, report.ne)
    quality = report.lite_quality()
    assert quality["ne"] == quality["full_ne"] == report.ne
    without = Predictions(**{**vars(made), "arms": {**made.arms, "lite": np.full_like(made.truth, np.nan)}})
    report = TaskReport.of(without, 0)
    assert (report.lite_auc, report.lite_ne, report.lite_calibration) == (None, None, None)


def test_the_course_leaves_out_empty_chunks_and_undefined_figures(made: Predictions) -> None:
    first, second = TaskReport.of(made, 0).chunks
    assert (first["rows"], second["rows"]) == (10, 290)
    assert first["auc"] is None
    assert second["auc"] > 0.6


def test_without_truth_the_best_possible_is_unknown(made: Predictions) -> None:
    blind = Predictions(**{**vars(made), "truth": np.empty((300, 0), np.float32)})
    report = TaskReport.of(blind, 1)
    assert report.bayes_ne is None
    assert "bayes_ne" not in report.quality()


def test_json_has_the_first_task_on_top_and_further_ones_below(made: Predictions) -> None:
    tasks = {name: TaskReport.of(made, place) for place, name in enumerate(made.tasks)}
    report = TrainingReport("tiny", 1.234567, 300, {"v": tasks, "w": {"click": tasks["click"]}})
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["verticals"]["v"]["task"] == "click"
    assert plain["verticals"]["v"]["auc"] == tasks["click"].auc
    assert plain["verticals"]["v"]["tasks"]["buy"]["auc"] == tasks["buy"].auc
    assert "tasks" not in plain["verticals"]["w"]

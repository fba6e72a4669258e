from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from exfm.data.source import Source
from exfm.distill.config import ConfigError, LiteOptions, Rates, TrainConfig
from exfm.distill.scoring import ARMS
from exfm.distill.trainer import Trainer, TrainingError

Make = Callable[..., Source]


def finished(source: Source, config: TrainConfig) -> Trainer:
    trainer = Trainer(source, config)
    for _ in trainer.chunks():
        pass
    return trainer


def with_labels_flipped_from(source: Source, row: int) -> Source:
    flip = np.arange(len(source.examples)) >= row
    labels = {task: np.where(flip, 1 - y, y) for task, y in source.examples.labels.items()}
    return replace(source, examples=replace(source.examples, labels=labels))


def test_each_chunk_is_annotated_once_by_a_teacher_that_has_learned_only_what_precedes_it(
    tiny: Make, config: TrainConfig
) -> None:
    trainer = finished(tiny(450), config)
    assert [(each.start, each.stop) for each in trainer.trace] == [
        (0, 100),
        (100, 200),
        (200, 300),
        (300, 400),
        (400, 450),
    ]
    assert all(each.learned == each.start for each in trainer.trace)


@pytest.mark.parametrize("row", [200, 250])
def test_an_outcome_changes_nothing_that_was_said_before_its_chunk_ended(
    tiny: Make, config: TrainConfig, row: int
) -> None:
    source = tiny(400)
    one, other = finished(source, config), finished(with_labels_flipped_from(source, row), config)
    for mine, theirs in zip(one.verticals, other.verticals, strict=True):
        index = mine.stream.index
        changed = {arm: index[(mine.arms[arm] != theirs.arms[arm]).any(1)].min() for arm in ARMS}
        # Counters of the same chunk may know of it once it has matured.
        matured = np.searchsorted(source.examples.time_ms, source.examples.time_ms[row] + 3_600_000)
        assert changed["teacher"] >= min(300, matured) > row
        assert changed["prior"] >= 300
        assert min(changed["student"], changed["plain"], changed["lite"]) > row


def test_verticals_read_only_their_own_rows(tiny: Make, config: TrainConfig) -> None:
    source = tiny(400)
    clicks, buys = finished(source, config).verticals
    assert len(clicks.stream.index) == 400
    np.testing.assert_array_equal(buys.stream.index, np.flatnonzero(~np.isnan(source.examples.labels["buy"])))
    for vertical in (clicks, buys):
        assert all(np.isfinite(vertical.arms[arm]).all() for arm in ARMS)
        assert sum(rows.stop - rows.start for rows in vertical.chunks) == len(vertical.stream.index)


def test_a_seed_repeats_to_the_bit_and_another_does_not(tiny: Make, config: TrainConfig) -> None:
    source = tiny(300)
    runs = [finished(source, replace(config, seed=seed)).verticals[0].arms for seed in (1, 1, 2)]
    for arm in ("student", "plain", "teacher", "lite"):
        np.testing.assert_array_equal(runs[0][arm], runs[1][arm])
        assert (runs[0][arm] != runs[2][arm]).any()


def test_progress_counts_rows_and_shows_a_running_figure(tiny: Make, config: TrainConfig) -> None:
    steps = list(Trainer(tiny(250), config).chunks())
    assert [(step.done, step.total) for step in steps] == [(100, 250), (200, 250), (250, 250)]
    assert set(steps[-1].ne) == {"clicks", "buys"}
    assert 0.5 < steps[-1].ne["clicks"] < 1.5


def test_held_out_rows_are_predicted_but_not_in_what_is_published(tiny: Make, config: TrainConfig) -> None:
    source = tiny(400)
    held = replace(config, stream=replace(config.stream, holdout_s=6 * 3600.0))
    times = source.examples.time_ms
    trainer = finished(source, held)
    assert 0 < trainer.learned_until_ms < times[-1] - 6 * 3_600_000
    other = finished(with_labels_flipped_from(source, trainer.held_out), held)
    for mine, theirs in zip(trainer.verticals, other.verticals, strict=True):
        kept, same = mine.published, theirs.published
        assert kept.lite
        assert same.lite
        for weights, expected in ((kept.student, same.student), (kept.lite, same.lite)):
            assert all(torch.equal(value, expected[name]) for name, value in weights.items())
        np.testing.assert_array_equal(kept.prior.probability, same.prior.probability)
        assert np.isfinite(mine.arms["student"]).all()
        assert not torch.equal(mine.student.state()["table.weight"], kept.student["table.weight"])
    (snapshot, teacher), (_, theirs_too) = trainer.published_teacher, other.published_teacher
    assert snapshot < trainer.teacher.snapshots
    assert all(torch.equal(value, theirs_too[name]) for name, value in teacher.items())


def test_predictions_hold_the_last_day(tiny: Make, config: TrainConfig) -> None:
    source = tiny(400)
    trainer = finished(source, config)
    for vertical in trainer.verticals:
        made = trainer.predictions(vertical)
        assert (made.time_ms[made.last_day] >= 86_400_000).all()
        assert (made.time_ms[: made.last_day.start] < 86_400_000).all()
        assert made.truth.shape == made.labels.shape


def test_a_vertical_without_outcomes_is_refused(tiny: Make, config: TrainConfig) -> None:
    source = tiny(100)
    labels = {**source.examples.labels, "buy": np.full(100, np.nan, np.float32)}
    with pytest.raises(TrainingError, match="'buys' has no impression"):
        Trainer(replace(source, examples=replace(source.examples, labels=labels)), config)


def test_a_multiplier_for_no_feature_is_refused(tiny: Make, config: TrainConfig) -> None:
    student = replace(config.student, rates=Rates(multipliers={"usr": 3.0}))
    with pytest.raises(ConfigError, match=r"student\.rates\.multipliers: 'usr' is no feature"):
        Trainer(tiny(100), replace(config, student=student))


def test_a_lite_student_changes_nothing_for_the_others_and_may_be_left_out(tiny: Make, config: TrainConfig) -> None:
    source = tiny(300)
    one, other = finished(source, config), finished(source, replace(config, lite=LiteOptions(train=False)))
    for mine, theirs in zip(one.verticals, other.verticals, strict=True):
        for arm in ("student", "plain", "teacher", "prior"):
            np.testing.assert_array_equal(mine.arms[arm], theirs.arms[arm])
        assert np.isnan(theirs.arms["lite"]).all()
        assert theirs.published.lite is None


def test_a_vertical_named_like_a_lite_student_is_refused(tiny: Make, config: TrainConfig) -> None:
    source = tiny(100)
    clicks, buys = source.schema.verticals
    schema = replace(source.schema, verticals=(clicks, replace(buys, name="clicks_lite")))
    with pytest.raises(TrainingError, match="'clicks_lite' has the name of another one's lite student"):
        Trainer(replace(source, schema=schema), config)


def test_an_unknown_further_outcome_is_refused(tiny: Make, config: TrainConfig) -> None:
    teacher = replace(config.teacher, also=("lik",))
    with pytest.raises(ConfigError, match="no outcome 'lik'"):
        Trainer(tiny(100), replace(config, teacher=teacher))


def test_annotations_that_the_log_brings_along_stand_before_the_runs_own(tiny: Make) -> None:
    source = tiny(600)
    given = np.full(600, 0.25, np.float32)
    given[::2] = np.nan
    brought = replace(source, examples=replace(source.examples, annotations={"click": given}))
    own, mixed = (finished(each, TrainConfig()).verticals[0] for each in (source, brought))
    known = own.stream.index % 2 == 1
    assert (mixed.arms["teacher"][known, 0] == 0.25).all()
    np.testing.assert_array_equal(mixed.arms["teacher"][~known], own.arms["teacher"][~known])

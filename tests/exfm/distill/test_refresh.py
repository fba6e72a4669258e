from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exfm.data.source import Source
from exfm.distill.config import TrainConfig
from exfm.distill.refresh import FreshPrior, RefreshError, prior_of_checkpoint, priors_of_log, refresh
from exfm.distill.training import train
from exfm.features.prior_file import NAME, read_prior
from exfm.models.checkpoint import CheckpointError, Prior, load_checkpoint

Make = Callable[..., Source]


@pytest.fixture
def fresh() -> FreshPrior:
    prior = Prior(np.array([1, 4]), np.array([[0.5], [0.25]], np.float32), np.array([0.125], np.float32))
    return FreshPrior("clicks", ("click",), prior, 1234)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "clicks").mkdir()
    (tmp_path / "clicks" / "config.pbtxt").touch()
    return tmp_path


def test_a_log_teaches_what_training_on_it_teaches(tiny: Make, config: TrainConfig, tmp_path: Path) -> None:
    source = tiny(600)
    steps: list[int] = []
    report = train(source, config, tmp_path)
    for made in priors_of_log(source, config, steps.append):
        published = load_checkpoint(tmp_path / "students" / f"{made.vertical}.pt")
        assert published.prior
        np.testing.assert_array_equal(made.prior.ad, published.prior.ad)
        np.testing.assert_allclose(made.prior.probability, published.prior.probability, rtol=1e-6)
        assert made.tasks == published.tasks
        assert made.figures
        told = report.verticals[made.vertical][made.tasks[0]]
        assert made.figures.rows == told.rows
        assert made.figures.auc == pytest.approx(told.prior_auc, abs=0.03)  # the chunks are cut elsewhere
    assert sum(steps) == sum(np.count_nonzero(~np.isnan(source.examples.labels[task])) for task in ("click", "buy"))


def test_it_has_learned_until_its_last_impression(tiny: Make, config: TrainConfig) -> None:
    source = tiny(400)
    clicks, buys = priors_of_log(source, config, int)
    times = source.examples.time_ms
    assert clicks.learned_until_ms == times[-1]
    assert buys.learned_until_ms == times[~np.isnan(source.examples.labels["buy"])][-1]


def test_a_vertical_without_outcomes_is_refused(tiny: Make, config: TrainConfig) -> None:
    source = tiny(100)
    labels = {**source.examples.labels, "buy": np.full(100, np.nan, np.float32)}
    bare = replace(source, examples=replace(source.examples, labels=labels))
    with pytest.raises(RefreshError, match="'buys' has no impression"):
        list(priors_of_log(bare, config, int))


def test_each_refresh_has_the_next_number(repository: Path, fresh: FreshPrior) -> None:
    path = repository / "clicks" / NAME
    assert [refresh(repository, fresh).version for _ in range(3)] == [1, 2, 3]
    file = read_prior(path)
    assert (file.vertical, file.tasks, file.version, file.learned_until_ms) == ("clicks", ("click",), 3, 1234)
    np.testing.assert_array_equal(file.probability, fresh.prior.probability)
    path.write_bytes(b"torn")
    assert refresh(repository, fresh).version == 1


def test_a_vertical_that_is_not_published_is_refused(repository: Path, fresh: FreshPrior) -> None:
    with pytest.raises(RefreshError, match="no published model of vertical 'other'"):
        refresh(repository, replace(fresh, vertical="other"))


def test_a_full_students_checkpoint_has_a_prior_and_no_other(tiny: Make, config: TrainConfig, tmp_path: Path) -> None:
    source = tiny(300)
    train(source, config, tmp_path)
    made = prior_of_checkpoint(load_checkpoint(tmp_path / "students" / "clicks.pt"))
    assert (made.vertical, made.tasks) == ("clicks", ("click",))
    assert made.learned_until_ms == source.examples.time_ms[-1]
    for name in ("students/clicks.lite.pt", "teacher.pt"):
        with pytest.raises(CheckpointError, match="only a full student's"):
            prior_of_checkpoint(load_checkpoint(tmp_path / name))

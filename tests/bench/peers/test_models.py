"""The two students as they are published for the contest."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.export.students import Trained
from bench.peers import models
from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source
from exfm.features.schema import Schema
from exfm.features.signature import PROBABILITY
from exporter.options import QUICK_ENGINES
from loadtest.peers.errors import ModelFolderError
from loadtest.peers.model import find_model
from loadtest.peers.quality import quality_of
from loadtest.peers.samples import golden_sample
from loadtest.peers.servers.scoring import Scoring

Make = Callable[..., Any]


@pytest.fixture
def arms(tiny_schema: Schema, make_checkpoint: Make, tmp_path: Path) -> dict[str, Trained]:
    made = {}
    for arm, backbone in (("own", "dot"), ("naive", "dcn")):
        made[arm] = Trained(tmp_path / "arms" / arm, {"feed_click": 0.9})
        path = made[arm].checkpoint("feed_click")
        path.parent.mkdir(parents=True)
        make_checkpoint(tiny_schema, "feed_click", backbone=backbone).save(path)
    return made


def test_both_are_published_once_and_the_peers_graph_scores_as_the_naive_student_does(
    arms: dict[str, Trained], tiny_schema: Schema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = replace(Source("tiny", *simulate(0, Scale(rows=50, users=5, ads=5))), schema=tiny_schema)
    monkeypatch.setattr(models, "open_source", lambda *_: source)
    monkeypatch.setattr(models, "train_arms", lambda *_: arms)
    monkeypatch.setattr(models, "ALL", QUICK_ENGINES)
    made = models.find_or_train(None, "", tmp_path, 0)
    own, naive = find_model(made.own), find_model(made.naive)
    assert quality_of(own, naive)["ne_gap"] == pytest.approx(0.0, abs=1e-6)
    # The shared graph, which torch has been held against, and the one that repeats the request's side agree.
    shared = find_model(made.naive.with_name("shared"))
    answer = np.frombuffer(Scoring(naive.folder).score([golden_sample(naive).body()])[0], "<f4")
    np.testing.assert_allclose(answer.reshape(-1, 2), shared.golden[PROBABILITY], atol=1e-5)
    assert not np.allclose(answer.reshape(-1, 2), own.golden[PROBABILITY], atol=1e-3)
    monkeypatch.setattr(models, "publish_own", pytest.fail)
    assert models.find_or_train(None, "feed_click", tmp_path, 0) == made
    with pytest.raises(ModelFolderError, match="no vertical nope"):
        models.find_or_train(None, "nope", tmp_path, 0)

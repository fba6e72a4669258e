"""A student that reads histories among the peers: nobody can send one, so all score the same requests without."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from exfm.features.schema import HistorySpec, Schema
from exfm.features.signature import HISTORY, PROBABILITY
from loadtest.peers import naive
from loadtest.peers.model import Model, find_model
from loadtest.peers.ranking import rank_message
from loadtest.peers.samples import draw_samples, golden_sample
from loadtest.peers.servers.scoring import Scoring
from loadtest.peers.triton import infer_message
from serving.features.histories import without_history
from serving.repository import load_catalog
from serving.rpc.codec import decode, parse

if TYPE_CHECKING:
    from exfm.models.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def reader(
    tiny_schema: Schema, make_checkpoint: "Callable[..., Checkpoint]", tmp_path_factory: pytest.TempPathFactory
) -> Model:
    """A published student whose golden request comes with a history."""
    from exporter.export import export

    folder = tmp_path_factory.mktemp("reader")
    schema = replace(tiny_schema, history=HistorySpec(length=4, dimension=3, delay_ms=0))
    make_checkpoint(schema, "feed_click").save(folder / "reader.pt")
    export(folder / "reader.pt", folder / "repository")
    return find_model(folder / "repository")


def test_every_system_gets_the_request_that_our_server_scores_without_a_store(reader: Model) -> None:
    (sample,) = draw_samples(reader, 5, 1, seed=0)
    assert not sample.tensors[HISTORY].any()
    vertical = load_catalog(reader.repository).find("feed_click")
    ours = without_history(decode(parse(rank_message(reader, sample)), vertical)).inputs
    assert ours.keys() == sample.tensors.keys()
    for name, values in sample.tensors.items():
        np.testing.assert_array_equal(np.asarray(ours[name]).reshape(values.shape), values)
    assert infer_message(reader, sample, None).count(HISTORY.encode()) == 1


def test_the_golden_answer_is_that_of_an_empty_history(reader: Model) -> None:
    published = dict(np.load(reader.folder / "golden.npz"))
    scoring = Scoring(reader.folder)
    sample = golden_sample(reader)
    answer = np.frombuffer(scoring.score([sample.body()])[0], "<f4").reshape(-1, reader.tasks)
    np.testing.assert_allclose(answer, reader.golden[PROBABILITY], atol=1e-6)
    sample.tensors[HISTORY] = published[HISTORY]
    known = np.frombuffer(scoring.score([sample.body()])[0], "<f4").reshape(-1, reader.tasks)
    np.testing.assert_allclose(known, published[PROBABILITY], atol=1e-5)
    assert np.abs(known - answer).max() > 1e-5  # it does read it


def test_the_naive_model_stands_in_for_it(reader: Model, tmp_path: Path) -> None:
    naive.write_graph(reader.schema, tmp_path / "naive.onnx")
    made = naive.repository_with(tmp_path / "naive.onnx", reader, tmp_path / "repository")
    assert load_catalog(made.repository).find("feed_click").schema.history == reader.schema.history
    answer = np.frombuffer(Scoring(made.folder).score([golden_sample(made).body()])[0], "<f4")
    np.testing.assert_allclose(answer.reshape(-1, made.tasks), made.golden[PROBABILITY], atol=1e-6)

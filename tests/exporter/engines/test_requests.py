import numpy as np

from exfm.features.schema import Schema
from exfm.features.signature import tensors_of
from exporter.engines.requests import ACCURACY_SIZES, random_request, random_rows
from exporter.golden import encode_request


def test_requests_fit_the_schema(own: Schema) -> None:
    request = random_request(own, 7, seed=0)
    assert {name: value.shape for name, value in request.items()} == {
        tensor.name: (1 if tensor.name.startswith("request") else 7, tensor.width) for tensor in tensors_of(own)
    }
    assert encode_request(own, request).candidate_rows.shape == (7, len(own.side("ad")))


def test_each_feature_draws_from_its_own_usable_rows(own: Schema) -> None:
    usable = np.zeros(own.rows, bool)
    usable[[3, 5]] = True  # of the first feature only
    batch = random_rows(own, usable, seed=0)
    assert set(np.unique(batch.request_rows[:, 0])) <= {3, 5}
    starts = np.cumsum([0, *(feature.rows for feature in own.ordered)])
    rows = np.concatenate([batch.request_rows[batch.owner], batch.candidate_rows], axis=1)
    assert (rows >= starts[:-1]).all()
    assert (rows < starts[1:]).all()


def test_batches_are_jagged(own: Schema) -> None:
    batch = random_rows(own, np.ones(own.rows, bool), seed=0)
    assert np.bincount(batch.owner).tolist() == list(ACCURACY_SIZES)

"""The variant's files and configuration."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from bench.batching.variant import OWNER, THIN_RUNNER, jagged_name, write_both
from serving.catalog import Vertical
from serving.repository import load_catalog


@pytest.fixture(scope="module")
def vertical(published_repository: Path) -> Vertical:
    return load_catalog(published_repository).find("feed_click")


@pytest.fixture(scope="module")
def both(published_repository: Path, vertical: Vertical, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both")
    write_both(published_repository, vertical, folder)
    return folder


def test_the_published_one_stays_as_it_is(both: Path, vertical: Vertical, published_repository: Path) -> None:
    for path in (both / vertical.name).rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (published_repository / path.relative_to(both)).read_bytes()


def test_the_variant_differs_in_who_forms_the_batch_only(both: Path, vertical: Vertical) -> None:
    name = jagged_name(vertical)
    plain, jagged = (
        text_format.Parse((both / one / "config.pbtxt").read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
        for one in (vertical.name, name)
    )
    assert (jagged.name, jagged.max_batch_size, jagged.HasField("dynamic_batching")) == (name, 0, False)
    assert jagged.instance_group == plain.instance_group
    assert jagged.parameters["schema_hash"] == plain.parameters["schema_hash"]
    *tensors, owner = jagged.input
    assert [(one.name, one.data_type) for one in tensors] == [(one.name, one.data_type) for one in plain.input]
    assert all(one.dims[0] == -1 and not one.allow_ragged_batch for one in tensors)
    assert (owner.name, list(owner.dims)) == (OWNER, [-1])
    assert {one.name: list(one.dims) for one in jagged.output} == {"probability": [-1, 2], "unknown": [-1]}


def test_the_published_runner_lies_beside_the_thin_one(both: Path, vertical: Vertical) -> None:
    version = str(vertical.version)
    folder = both / jagged_name(vertical) / version
    assert (folder / "model.py").read_bytes() == THIN_RUNNER.read_bytes()
    runner = both / vertical.name / version / "model.py"
    assert (folder / "exporter" / "runner" / "model.py").read_bytes() == runner.read_bytes()

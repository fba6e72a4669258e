"""A published version of the tiny schema, and the naive model over it."""

from pathlib import Path

import pytest

from loadtest.peers import naive
from loadtest.peers.model import Model, find_model


@pytest.fixture(scope="session")
def student(published_repository: Path) -> Model:
    return find_model(published_repository, "feed_click")


@pytest.fixture(scope="session")
def naive_model(student: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("naive")
    naive.write_graph(student.schema, folder / "naive.onnx")
    return naive.repository_with(folder / "naive.onnx", student, folder / "repository")

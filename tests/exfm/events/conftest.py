"""A real JetStream for the log's tests."""

from collections.abc import Iterator

import pytest

from bench.scale.servers import Server, ServerMissingError, nats_nodes


@pytest.fixture
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A node that the test may kill and start again."""
    pytest.importorskip("nats", reason="nats-py is not installed: pip install 'exfm-serving[scale]'")
    try:
        (node,) = nats_nodes(tmp_path_factory.mktemp("nats"))
    except ServerMissingError as error:
        pytest.skip(str(error))
    with node:
        yield node


@pytest.fixture(scope="session")
def jetstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a node that all tests share, without a stream."""
    pytest.importorskip("nats", reason="nats-py is not installed: pip install 'exfm-serving[scale]'")
    try:
        (node,) = nats_nodes(tmp_path_factory.mktemp("nats"))
    except ServerMissingError as error:
        pytest.skip(str(error))
    with node:
        yield f"nats://127.0.0.1:{node.port}"

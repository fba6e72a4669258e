"""A real Valkey for the store's tests."""

from collections.abc import Iterator

import pytest

from bench.scale.servers import Server, ServerMissingError, valkey_server


@pytest.fixture
def valkey_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the test may kill and start again; it has room for 4 MB."""
    pytest.importorskip("redis", reason="redis is not installed: pip install 'exfm-serving[scale]'")
    try:
        server = valkey_server(tmp_path_factory.mktemp("valkey"), "--maxmemory", "4mb")
    except ServerMissingError as error:
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture
def valkey(valkey_node: Server) -> str:
    """URL of an empty store."""
    return f"redis://127.0.0.1:{valkey_node.port}/1"

"""The shared port: found, kept, and refused where somebody else has it."""

import socket

import pytest

from serving.errors import StartError
from serving.processes.port import SharedPort


def test_port_0_takes_one_that_others_can_share() -> None:
    with SharedPort("127.0.0.1:0") as port, socket.socket() as worker:
        host, _, number = port.address.rpartition(":")
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind((host, int(number)))


def test_another_servers_port_is_not_shared_even_if_that_one_would_share_it(free_port: int) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", free_port))
        other.listen()
        with pytest.raises(StartError, match=f"can't listen on 127.0.0.1:{free_port}"):
            SharedPort(f"127.0.0.1:{free_port}")


@pytest.mark.parametrize("listen", ["nowhere", "127.0.0.1:x", "127.0.0.1:99999", "unix:/tmp/x"])
def test_what_is_no_address_is_said(listen: str) -> None:
    with pytest.raises(StartError, match="can't listen on"):
        SharedPort(listen)

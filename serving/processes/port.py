"""The port that several workers share: found, proved free, and kept, before any of them starts."""

import socket
from types import TracebackType
from typing import Self

from serving.errors import StartError


class SharedPort:
    """Binds host:port without listening, so that only sockets which share the port can have it besides."""

    def __init__(self, listen: str) -> None:
        """Bind; port 0 takes a free one.

        Raises:
            StartError: the address is no host:port, or somebody has it.
        """
        self._socket, host = self._bind(listen)
        self.address = f"{host}:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Leave the port to whoever listens on it, or to anybody."""
        self._socket.close()

    @staticmethod
    def _bind(listen: str) -> tuple[socket.socket, str]:
        host, _, port = listen.rpartition(":")
        try:
            if not 0 <= int(port) <= 65535:
                raise ValueError("a port is a number from 0 to 65535")
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, address = found[0]
            # Without sharing first: another server's workers on this port would share it with ours, silently.
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                chosen = (address[0], probe.getsockname()[1], *address[2:])
            held = socket.socket(family)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(chosen)
        except (OSError, ValueError) as error:
            raise StartError(f"can't listen on {listen}: {error}") from error
        return held, host

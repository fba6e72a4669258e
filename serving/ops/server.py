"""The ops plane's HTTP server, on the parent's event loop."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import uvicorn

from serving.errors import StartError
from serving.ops.app import Shown, app_of

_STOP_S = 1


class _Quiet(uvicorn.Server):
    """Signals are the parent's own business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class OpsServer:
    """Serves the pages from `async with` on."""

    def __init__(self, address: str, shown: Shown) -> None:
        """Bind host:port; port 0 takes a free one.

        Raises:
            StartError: the address can't be listened on.
        """
        host, _, port = address.rpartition(":")
        try:
            self._socket = socket.create_server((host.strip("[]"), int(port)))
        except (OSError, ValueError, OverflowError) as error:
            raise StartError(f"can't listen on {address} for the ops plane: {error}") from error
        self.address = f"{host}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app_of(shown), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=_STOP_S
        )
        self._server = _Quiet(config)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._server.serve([self._socket]))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        if self._task:
            await self._task
        self._socket.close()

"""The process of one part of a table, as seen by whoever has the table."""

import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.form import TableForm

_PATIENCE_S = 10.0


class Shard:
    """Starts a process that opens the part; the first `answer` says whether it did.

    Args:
        folder: of the part.
        form: of the part.
        at: the commit to open it at.
    """

    def __init__(self, folder: Path, form: TableForm, at: int) -> None:
        self._folder = folder
        self.died = ""
        """Says so, once the process has ended by itself."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "exfm.models.lazy.shard", str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self._connection: Connection[Any, Any] = Connection(ours.detach())
        self.ask(folder, form, at)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, *message: Any) -> None:
        """Send an attribute's name and arguments; a process that is no more doesn't answer."""
        try:
            self._connection.send(message)
        except OSError:
            self._bury()

    def answer(self) -> Any:
        """What it says to the oldest message; `LazyTableError` if it failed, or the process ended."""
        try:
            error, result = ("", None) if self.died else self._connection.recv()
        except (EOFError, OSError):
            self._bury()
            error = ""
        if error or self.died:
            raise LazyTableError(error or self.died)
        return result

    def close(self) -> None:
        """Let the process go."""
        self._connection.close()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _bury(self) -> None:
        status = self._process.wait()
        self.died = (
            f"{self._folder}: the process of this part of the table ended with status {status}; what was committed is "
            "there: open the table again"
        )

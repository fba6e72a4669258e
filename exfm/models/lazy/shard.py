"""A part's own process: `python -m exfm.models.lazy.shard FD` does to its table what the other end of FD asks for."""

import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from exfm.models.lazy.table import LazyTable


def serve(connection: "Connection[Any, Any]") -> None:
    """Open the table that the first message asks for, then do what the others ask; `EOFError` when the other end goes.

    The first message is the table's arguments, another one an attribute's name and its arguments. The answer is the
    error's message, or "", and the result.
    """
    try:
        table = LazyTable(*connection.recv())
    except OSError as error:
        connection.send((str(error), None))
        return
    connection.send(("", table.note))
    while True:
        name, *arguments = connection.recv()
        try:
            asked = getattr(table, name)
            answer = "", asked(*arguments) if callable(asked) else asked
        except OSError as error:
            answer = str(error), None
        connection.send(answer)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever has the table decides when it ends
    try:
        serve(Connection(int(sys.argv[1])))
    except (EOFError, ConnectionError):
        sys.exit(0)

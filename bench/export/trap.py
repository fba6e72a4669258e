"""Ends or fails this process at the k-th step that changes the file system; for use in a forked child only."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

_CHANGES = ("os.rename", "os.mkdir", "os.chmod", "os.link", "os.symlink", "os.truncate")
_REMOVALS = ("os.remove", "os.rmdir")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Trap:
    """Counts steps: each opening for writing, rename, sync, change of mode, new folder and removal, before it is done.

    What was written since a file was opened lies in the process's own buffer until the next step, so a file that is
    killed there is cut short, as a real one would be.
    """

    def __init__(self, at: int, spring: Callable[[], None], *, removals: bool = True, lasting: bool = False) -> None:
        """Set the trap; an audit hook can never be taken away again.

        Args:
            at: the step, from 1 on; 0: none.
            spring: what happens instead of that step.
            removals: whether removals count; a full disk lets them through.
            lasting: whether all later steps spring it, too.
        """
        self.steps = 0
        self._at, self._spring, self._lasting = at, spring, lasting
        self._counted = (*_CHANGES, *_REMOVALS) if removals else _CHANGES
        self._fsync = os.fsync
        os.fsync = self._sync  # type: ignore[assignment]  # the stubs say a name for its argument
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in self._counted or (event == "open" and _writes(arguments)):
            self._step()

    def _sync(self, handle: Any) -> None:
        self._step()
        self._fsync(handle)

    def _step(self) -> None:
        self.steps += 1
        if self._at and (self.steps == self._at or (self._lasting and self.steps > self._at)):
            self._spring()


def _writes(arguments: tuple[Any, ...]) -> bool:
    """Whether an `open` event is about a file that will be written."""
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & _WRITING)


def kill() -> None:
    """As `kill -9` from outside: nothing is flushed, no handler runs."""
    os.kill(os.getpid(), signal.SIGKILL)


def failing(code: int) -> Callable[[], None]:
    """What a file system says that has no room (ENOSPC) or may not be written (EROFS)."""

    def spring() -> None:
        raise OSError(code, os.strerror(code))

    return spring

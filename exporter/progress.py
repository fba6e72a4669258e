"""How far a long step is, for whoever waits."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tqdm import tqdm

HASHED, SYNCED, CHECKED = "bytes hashed", "bytes synced", "bytes checked"
"""What is counted of files."""
Count = Callable[..., object]
"""Called with how many more are done; with nothing: one."""
Watch = Callable[[str, int], AbstractContextManager[Count]]
"""Given what is counted and how many there are: a context, in which the call that it gives counts more as done."""
_OFTEN_S = 0.5
"""Between two looks of a bar."""
_SOON_S = 0.5
"""What of files is done sooner needs no bar."""


def uncounted(_: int = 1) -> None:
    """Counts nothing."""


@contextmanager
def unwatched(_: str, __: int) -> Iterator[Count]:
    """Shows nothing."""
    yield uncounted


@contextmanager
def on_stderr(unit: str, total: int) -> Iterator[Count]:
    """A bar on stderr, gone when it is full."""
    files = unit in (HASHED, SYNCED, CHECKED)
    with tqdm(
        total=total,
        desc=f"    {unit}",
        unit="B" if files else f" {unit}",
        unit_scale=files,
        unit_divisor=1024 if files else 1000,
        delay=_SOON_S if files else 0,
        file=sys.stderr,
        leave=False,
        mininterval=_OFTEN_S,
    ) as bar:
        yield bar.update


def say_on_stderr(text: str) -> None:
    """A line on stderr, above a bar that may be there."""
    tqdm.write(text, file=sys.stderr)

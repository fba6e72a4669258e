"""How far a long step is, for whoever waits."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tqdm import tqdm

Watch = Callable[[str, int], AbstractContextManager[Callable[[], object]]]
"""Given what is counted and how many there are: a context, in which the call that it gives counts one more as done."""


@contextmanager
def unwatched(_: str, __: int) -> Iterator[Callable[[], object]]:
    """Shows nothing."""
    yield lambda: None


@contextmanager
def on_stderr(unit: str, total: int) -> Iterator[Callable[[], object]]:
    """A bar on stderr, gone when it is full."""
    with tqdm(total=total, desc=f"    {unit}", unit=" " + unit, file=sys.stderr, leave=False, mininterval=0.5) as bar:
        yield bar.update


def say_on_stderr(text: str) -> None:
    """A line on stderr, above a bar that may be there."""
    tqdm.write(text, file=sys.stderr)

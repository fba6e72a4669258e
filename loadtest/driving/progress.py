"""A progress bar that costs the generator next to nothing."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from typing import NoReturn

from tqdm import tqdm

EVERY_S = 0.5


@contextlib.asynccontextmanager
async def showing(name: str, total: int) -> AsyncIterator[Callable[[], None]]:
    """Yields what to call per answer; the bar is drawn twice a second, not once per answer, on a terminal only."""
    seen = 0

    def done() -> None:
        nonlocal seen
        seen += 1

    async def draw(bar: "tqdm[NoReturn]") -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            bar.update(seen - bar.n)

    bar: tqdm[NoReturn]
    with tqdm(total=total, desc=name, unit="request", file=sys.stderr, leave=False, disable=None) as bar:
        drawing = asyncio.create_task(draw(bar))
        try:
            yield done
        finally:
            drawing.cancel()
            bar.update(seen - bar.n)

"""An export's steps, in order: each announced when it begins, timed, and listed at the end."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from exporter.progress import Watch, unwatched

STEPS = ("load", "convert", "profile", "verify", "configure", "package", "publish")


@dataclass(frozen=True)
class Step:
    """A step that was done.

    Attributes:
        name: such as one of `STEPS`.
        seconds: how long it took.
    """

    name: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


class Itinerary:
    """Goes through its steps; one that fails is not entered as done."""

    def __init__(
        self,
        report: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        watch: Watch = unwatched,
        steps: Sequence[str] = STEPS,
    ) -> None:
        """Begin.

        Args:
            report: gets a line when a step begins, and what is said during it.
            clock: seconds, monotonic.
            watch: shows how far the step is that runs.
            steps: all that there are, in order.
        """
        self._report = report
        self._steps = steps
        self._clock = clock
        self.watch = watch
        self.done: list[Step] = []
        self._running: tuple[str, float] | None = None

    def begin(self, name: str, what: str) -> None:
        """End the step that runs and announce the next one."""
        self.end()
        self._report(f"{self._steps.index(name) + 1}/{len(self._steps)} {name}: {what}")
        self._running = name, self._clock()

    def end(self) -> None:
        """Enter the step that runs as done."""
        if self._running is not None:
            name, started_s = self._running
            self.done.append(Step(name, self._clock() - started_s))
            self._running = None

    def say(self, text: str) -> None:
        """A remark on the step that runs."""
        self._report(f"    {text}")

"""How long an outcome counts for its impression, and how far event time has come."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from exfm.features.schema import Schema, SchemaError

MINUTE_S = 60.0
DAY_S = 86_400.0


@dataclass(frozen=True)
class JoinOptions:
    """The joiner's settings.

    Attributes:
        windows_s: seconds by task within which an outcome counts: minutes for clicks, a day for conversions.
        window_s: for any other task.
        lateness_s: how long after its own time an event may reach the log and still be in time.
        idle_s: once nothing has come for that long, the time of day moves event time on; infinite: never, for replays.
        batch: examples per record of the output.
        most_examples: the join pauses while that many examples wait for annotation.
        records: of the log that one step reads.
    """

    windows_s: Mapping[str, float] = field(default_factory=dict)
    window_s: float = 10 * MINUTE_S
    lateness_s: float = 60.0
    idle_s: float = 30.0
    batch: int = 1024
    most_examples: int = 200_000
    records: int = 50

    def window_ms(self, task: str) -> int:
        """A task's window in milliseconds."""
        return round(self.windows_s.get(task, self.window_s) * 1e3)

    def check(self, schema: Schema) -> None:
        """`SchemaError` if a window is given for a task that the schema lacks."""
        if unknown := sorted(set(self.windows_s) - set(schema.tasks)):
            raise SchemaError(f"window: there is no task {unknown[0]!r}; there are {', '.join(schema.tasks)}")

    def windows_ms(self, schema: Schema) -> dict[str, int]:
        """By vertical, how long its impressions wait: the longest window of its tasks, so that no label is guessed."""
        return {each.name: max(self.window_ms(task) for task in each.tasks) for each in schema.verticals}

    def horizon_ms(self, schema: Schema) -> int:
        """How long a joined impression is remembered, to know a duplicate or a late outcome when it comes."""
        return 2 * max(self.windows_ms(schema).values()) + round(2e3 * self.lateness_s)


@dataclass(frozen=True)
class Watermark:
    """No event older than `at_ms` is expected any more; never goes back.

    Attributes:
        at_ms: milliseconds since the epoch; 0: nothing was seen.
    """

    at_ms: int = 0

    def seen(self, time_ms: int, lateness_ms: int, *, known_ms: int | None = None) -> "Watermark":
        """After an event of that time.

        Nothing happens after it was logged, at `known_ms`: an event that says so has another clock, and moves event
        time only as far as the log's own.
        """
        return Watermark(max(self.at_ms, (time_ms if known_ms is None else min(time_ms, known_ms)) - lateness_ms))

"""A frontend's log without a frontend: impressions at a steady rate, logged as serving logs them, and their outcomes.

`python -m bench.asynchrony.feeder` reads from standard input what it is to do, `main`'s arguments as JSON, and says as
JSON what it has offered. A row's `time_ms` is the instant at which it was due, however late it was offered.
"""

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import count

from bench.asynchrony.traffic import impressions, outcomes
from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source
from exfm.events import outcome
from exfm.events.backends import open_log
from exfm.events.ids import impression_key
from exfm.events.impression import Impression
from exfm.events.log import EventLog
from exfm.events.outcome import Outcome
from serving.budget.clock import wall_ms
from serving.impressions.log import ServingLog

PAUSE_S = 0.01
TAIL_S = 1.0
"""It goes on for so long, so that event time moves on behind the rows that count."""
_CLOSE_S = 30.0


@dataclass(frozen=True)
class Fed:
    """What was offered.

    Attributes:
        until_ms: rows count that are not later.
        rows: how many those are.
        rate: rows per second, those that don't count included, until the last one was offered.
        dropped: by reason, what the log could not keep.
    """

    until_ms: int
    rows: int
    rate: float
    dropped: dict[str, int]


class Traffic:
    """Rows of a source again and again, each time under new keys; a row's positive outcomes come when it is asked."""

    def __init__(self, rows: int) -> None:
        source = Source("simulator", *simulate(0, Scale(rows=rows)))
        self._served = impressions(source, source.examples)
        self._tasks: dict[bytes, list[str]] = defaultdict(list)
        for told in outcomes(source.examples, self._served):
            self._tasks[told.key].append(told.task)
        self._number = count()

    def take(self, times_ms: Iterable[int]) -> Iterator[tuple[Impression, list[Outcome]]]:
        """The next rows, one of each time."""
        for time_ms in times_ms:
            number = next(self._number)
            row = self._served[number % len(self._served)]
            name = f"f{number}"
            key = impression_key(row.vertical, name, row.ad)
            told = [Outcome(key, task, 1.0, time_ms) for task in self._tasks.get(row.key, ())]
            yield row._replace(key=key, request_id=name, time_ms=time_ms), told


def feed(log: EventLog, serving: ServingLog, traffic: Traffic, rate: float, seconds: float) -> tuple[int, int, float]:
    """Offer rows for that long and a tail longer, those that are due and were not offered yet at once.

    Returns:
        `until_ms`, `rows` and `rate` of `Fed`.
    """
    began_s, began_ms, total = time.monotonic(), wall_ms(), int(rate * (seconds + TAIL_S))
    until_ms, counted, offered, spent_s = began_ms + int(1e3 * seconds), 0, 0, 0.0
    while offered < total:
        due = min(int(rate * (time.monotonic() - began_s)), total)
        times_ms = [began_ms + int(1e3 * number / rate) for number in range(offered + 1, due + 1)]
        made = list(traffic.take(times_ms))
        serving.offer([row for row, _ in made])
        if told := [each for _, outcomes_of in made for each in outcomes_of]:
            log.append(outcome.TOPIC, outcome.encode(told), len(told), os.urandom(16))
        offered, spent_s = due, time.monotonic() - began_s
        counted += sum(time_ms <= until_ms for time_ms in times_ms)
        time.sleep(PAUSE_S)
    return until_ms, counted, offered / spent_s


def main(url: str, rows: int, rate: float, seconds: float) -> Fed:
    """Feed a log, `rate` rows a second of a source of `rows`."""
    traffic, log, serving = Traffic(rows), open_log(url), ServingLog(lambda: open_log(url))
    serving.start()
    fed = feed(log, serving, traffic, rate, seconds)
    serving.close(_CLOSE_S)
    log.close()
    return Fed(*fed, {str(why): many for why, many in serving.dropped.items()})


if __name__ == "__main__":
    if asked := sys.stdin.read():  # else whoever started it has gone
        sys.stdout.write(json.dumps(asdict(main(**json.loads(asked)))) + "\n")

"""A frontend's log without a frontend: impressions at a steady rate, logged as serving logs them, and their outcomes.

`python -m bench.asynchrony.feeder LOG ROWS RATE SECONDS` says as JSON what it has offered. A row's `time_ms` is the
instant at which the log took it.
"""

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
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
        dropped: by reason, what the log could not keep.
    """

    until_ms: int
    rows: int
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

    def take(self, most: int, time_ms: int) -> Iterator[tuple[Impression, list[Outcome]]]:
        """The next rows, of that time."""
        for _ in range(most):
            number = next(self._number)
            row = self._served[number % len(self._served)]
            name = f"f{number}"
            key = impression_key(row.vertical, name, row.ad)
            told = [Outcome(key, task, 1.0, time_ms) for task in self._tasks.get(row.key, ())]
            yield row._replace(key=key, request_id=name, time_ms=time_ms), told


def feed(log: EventLog, serving: ServingLog, traffic: Traffic, rate: float, seconds: float) -> tuple[int, int]:
    """Offer rows for that long and a tail longer; until when rows count, and how many those are."""
    began_s, until_ms, counted, offered = time.monotonic(), 0, 0, 0
    while (spent_s := time.monotonic() - began_s) < seconds + TAIL_S:
        now_ms = wall_ms()
        made = list(traffic.take(int(rate * spent_s) - offered, now_ms))
        serving.offer([row for row, _ in made])
        if told := [each for _, outcomes_of in made for each in outcomes_of]:
            log.append(outcome.TOPIC, outcome.encode(told), len(told), os.urandom(16))
        offered += len(made)
        if spent_s < seconds:
            until_ms, counted = now_ms, offered
        time.sleep(PAUSE_S)
    return until_ms, counted


def main(url: str, rows: int, rate: float, seconds: float) -> Fed:
    """Feed a log."""
    traffic, log, serving = Traffic(rows), open_log(url), ServingLog(lambda: open_log(url))
    serving.start()
    until_ms, counted = feed(log, serving, traffic, rate, seconds)
    serving.close(_CLOSE_S)
    log.close()
    return Fed(until_ms, counted, {str(why): many for why, many in serving.dropped.items()})


if __name__ == "__main__":
    fed = main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
    sys.stdout.write(json.dumps(asdict(fed)) + "\n")

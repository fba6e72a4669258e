"""Each event log beside the embedded one: rounds in turns, the same records, appended one by one, then read."""

import os
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.scale.cluster import running
from exfm.events.backends import open_log
from exfm.events.log import BEGIN, EventLog

BATCH, EVENT_BYTES = 100, 1000
EMBEDDED = "sqlite"


def measure(folder: Path, *, rounds: int, batches: int) -> dict[str, Any]:
    """Events per second, median of the rounds, and the median of the rounds' ratios to the embedded log.

    Args:
        folder: for files and nodes; all on one disk.
        rounds: how often each log has its turn.
        batches: of 100 events of 1 KB, appended and read per turn, by one thread.
    """
    with running(folder / "one", 1) as one, running(folder / "three") as three:
        logs = {
            EMBEDDED: open_log(f"sqlite:{folder / 'log.sqlite'}"),
            "jetstream": one.open("throughput"),
            "jetstream_three_replicas": three.open("throughput", "?replicas=3"),
        }
        three.leader("throughput")
        for log in logs.values():
            _turn(log, "warm", 10)
        turns = [{name: _turn(log, f"t{number}", batches) for name, log in logs.items()} for number in range(rounds)]
        for log in logs.values():
            log.close()
    return {name: _figures(name, turns) for name in logs}


def _turn(log: EventLog, topic: str, batches: int) -> tuple[float, float]:
    """Events per second appended, and read."""
    payload = os.urandom(BATCH * EVENT_BYTES)
    began_s = time.perf_counter()
    for number in range(batches):
        log.append(topic, payload, BATCH, number.to_bytes(8, "big"))
    appended_s = time.perf_counter()
    read, after = 0, BEGIN
    while records := log.read(topic, after, 64):
        read += sum(record.count for record in records)
        after = records[-1].offset
    done_s = time.perf_counter()
    if read != batches * BATCH:
        raise AssertionError(f"{read} of {batches * BATCH} events came back")
    return read / (appended_s - began_s), read / (done_s - appended_s)


def _figures(name: str, turns: list[dict[str, tuple[float, float]]]) -> dict[str, float]:
    return {
        "append_events_per_s": median(turn[name][0] for turn in turns),
        "append_ratio": median(turn[name][0] / turn[EMBEDDED][0] for turn in turns),
        "read_events_per_s": median(turn[name][1] for turn in turns),
        "read_ratio": median(turn[name][1] / turn[EMBEDDED][1] for turn in turns),
    }

"""The leader of a three-node JetStream is killed again and again while a writer writes: what was lost, what doubled."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.scale.cluster import Cluster, running
from exfm.events.log import BEGIN, EventLog, LogUnavailableError

STREAM, TOPIC = "failover", "impressions"
BATCH, EVENT_BYTES = 100, 1000
_SETTINGS = "?replicas=3&timeout_s=1"
FASTEST_BATCHES = 100
_NUMBER_BYTES = 8
RETRY_S = 0.05
"""As long as the server's log lingers."""


@dataclass
class Writer:
    """Appends numbered batches at a pace, each until it is acknowledged, as the server's log does.

    Attributes:
        acked_s: when each batch was acknowledged, by its number.
        retries: tries that failed.
        known: batches of which the log said that it had them already.
    """

    log: EventLog
    per_s: float
    acked_s: list[float] = field(default_factory=list)
    retries: int = 0
    known: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Write until `stop`."""
        began_s, filler = time.monotonic(), bytes(BATCH * EVENT_BYTES - _NUMBER_BYTES)
        while not self.stop.is_set():
            number = len(self.acked_s).to_bytes(_NUMBER_BYTES, "big")
            self._append(number + filler, number)
            self.acked_s.append(time.monotonic())
            ahead_s = began_s + len(self.acked_s) / self.per_s - time.monotonic()
            if ahead_s > 0:
                time.sleep(ahead_s)
            else:
                began_s -= ahead_s  # what an outage cost is not made up for in a burst

    def _append(self, payload: bytes, number: bytes) -> None:
        while True:
            try:
                self.known += not self.log.append(TOPIC, payload, BATCH, number)
            except LogUnavailableError:
                self.retries += 1
                time.sleep(RETRY_S)
                continue
            return


def measure(folder: Path, *, kills: int, steady_s: float, per_s: float) -> dict[str, Any]:
    """`kill -9` of the leader, and its return, `kills` times.

    Args:
        folder: for the nodes.
        kills: how many.
        steady_s: seconds of writing before each kill.
        per_s: batches of 100 events of 1 KB a second.

    Returns:
        Batches that were acknowledged and are not there; batches that are there twice; the longest time between two
        acknowledgements, and that of each kill; `events_per_s` as fast as one writer can, before the first kill.
    """
    with running(folder) as cluster:
        log = cluster.open(STREAM, _SETTINGS)
        cluster.leader(STREAM)
        fastest = _events_per_s(log)
        writer = Writer(log, per_s)
        thread = threading.Thread(target=writer.run)
        thread.start()
        try:
            killed_s = [_kill_leader(cluster, writer, steady_s) for _ in range(kills)]
        finally:
            writer.stop.set()
            thread.join()
        log.close()
        kept = _kept(cluster)
    gaps = list(pairwise(writer.acked_s))
    return {
        "acked_lost": sum(number not in kept for number in range(len(writer.acked_s))),
        "duplicates": sum(times - 1 for times in kept.values()),
        "gap_s": max(after - before for before, after in gaps),
        "gaps_s": [max(after - before for before, after in gaps if after > at and before < at + 1) for at in killed_s],
        "events_per_s": fastest,
        "kills": kills,
        "acked_batches": len(writer.acked_s),
        "batches_per_s": per_s,
        "failed_tries": writer.retries,
        "kept_before_the_retry": writer.known,
    }


def _events_per_s(log: EventLog) -> float:
    payload, began_s = bytes(BATCH * EVENT_BYTES), time.perf_counter()
    for number in range(FASTEST_BATCHES):
        log.append("fastest", payload, BATCH, number.to_bytes(_NUMBER_BYTES, "big"))
    return FASTEST_BATCHES * BATCH / (time.perf_counter() - began_s)


def _kill_leader(cluster: Cluster, writer: Writer, steady_s: float) -> float:
    """Kill it in full flight, let the writer go on without it for a while, start it again."""
    leader = cluster.leader(STREAM)
    time.sleep(steady_s)
    at_s, acked = time.monotonic(), len(writer.acked_s)
    cluster.nodes[leader].kill()
    until_s = time.monotonic() + 60
    while len(writer.acked_s) < acked + 50 and time.monotonic() < until_s:
        time.sleep(0.02)
    cluster.nodes[leader].start()
    cluster.leader(STREAM)
    return at_s


def _kept(cluster: Cluster) -> Counter[int]:
    """How often each batch is in the log."""
    log, found, after = cluster.open(STREAM, _SETTINGS), Counter[int](), BEGIN
    while records := log.read(TOPIC, after, 256):
        found.update(int.from_bytes(record.payload[:_NUMBER_BYTES], "big") for record in records)
        after = records[-1].offset
    log.close()
    return found

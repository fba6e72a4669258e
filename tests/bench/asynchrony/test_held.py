"""The books of a run under kill -9 are held against the log itself: what nobody counted shows."""

from pathlib import Path

import pytest

from bench.asynchrony import held
from bench.asynchrony.traffic import impressions, outcomes
from exfm.augment.accounts import accounts
from exfm.augment.join import example
from exfm.augment.join.joiner import CONSUMER, Joiner
from exfm.augment.join.windows import JoinOptions
from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source
from exfm.events import impression, outcome
from exfm.events.log import BEGIN, EventLog, Record
from exfm.events.memory import MemoryLog
from exfm.events.sqlite import SqliteLog


class Skipping(MemoryLog):
    """Withholds a record of a topic from who reads on."""

    def __init__(self, topic: str) -> None:
        super().__init__()
        self.topic, self.skips = topic, True

    def read(self, topic: str, after: int, limit: int) -> list[Record]:
        records = super().read(topic, after, limit)
        return [*records[:1], *records[2:]] if topic == self.topic and self.skips and after == BEGIN else records


@pytest.mark.parametrize(("topic", "expected"), [("", 0), (impression.TOPIC, 40), (outcome.TOPIC, 5)])
def test_a_record_that_the_join_never_read_is_unaccounted(tmp_path: Path, topic: str, expected: int) -> None:
    source = Source("simulator", *simulate(0, Scale(rows=200, days=2, users=60, ads=40)))
    served = impressions(source, source.examples)
    told, log = list(outcomes(source.examples, served)), Skipping(topic)
    for each, rows, size in ((impression, served, 20), (outcome, told, 5)):
        for at in range(0, 2 * size + size, size):
            part = rows[at : at + size]
            log.append(each.TOPIC, each.encode(part), len(part), at.to_bytes(4, "big"))
    log.append(impression.TOPIC, b"junk", 3, b"junk")
    joiner = Joiner(log, tmp_path / "join.sqlite", source.schema, JoinOptions(idle_s=0.0), now_ms=lambda: 1 << 50)
    while not joiner.step().idle:
        pass
    log.skips, output = False, SqliteLog(tmp_path / "join.sqlite")
    examples = [example.decode(each.payload) for each in held.records(output, example.TOPIC)]
    trained = {key for batch in examples for key in batch.column("key").to_pylist()}
    books = _annotated(log, output, joiner)
    assert books["impressions"]["unaccounted"] == books["outcomes"]["unaccounted"] == 0  # it sees nothing
    assert held.unaccounted(log, output, tmp_path, books, trained) == (63, expected)
    joiner.close()
    output.close()


def _annotated(log: EventLog, output: EventLog, joiner: Joiner) -> dict[str, dict[str, int]]:
    """The books once all that waits is in the stream."""
    assert log.lag(CONSUMER, impression.TOPIC).events == 0
    books = accounts(log, output, joiner.accounts(), [])
    shown = books["impressions"]
    shown |= {"trained": shown["waiting"], "waiting": 0}
    return books

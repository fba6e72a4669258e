"""`exfm-annotate` over JetStream and Valkey does what it does over the embedded engines, event by event."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from bench.asynchrony.teacher import publish
from bench.asynchrony.traffic import impressions, outcomes
from bench.scale.servers import ServerMissingError, nats_nodes, valkey_server
from exfm.augment.places import Places
from exfm.commands.annotate import main
from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source
from exfm.events import impression, outcome
from serving.features.store import opener

ROWS = 400


@pytest.fixture
def urls(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A log and a store on real servers."""
    for module in ("nats", "redis"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install 'exfm-serving[scale]'")
    with ExitStack() as stack:
        try:
            node = stack.enter_context(nats_nodes(tmp_path / "nats")[0])
            valkey = stack.enter_context(valkey_server(tmp_path / "valkey"))
        except ServerMissingError as error:
            pytest.skip(str(error))
        yield f"nats://127.0.0.1:{node.port}/ads", f"redis://127.0.0.1:{valkey.port}/0"


def read(url: str, users: list[int]) -> Iterator[tuple[int, bytes | None]]:
    """Users' histories as the frontend reads them, without its haste."""
    if url.startswith("redis:"):
        from exfm.events.valkey import ValkeyPlace, key_of

        client = ValkeyPlace.parse(url.partition(":")[2]).client(connect_s=10, answer_s=10)
        for user in users:
            value = client.get(key_of(user))
            assert value is None or isinstance(value, bytes)
            yield user, value
        client.close()
        return
    reader = opener(url)()
    yield from ((user, reader.get(user)) for user in users)
    reader.close()


def run(
    places: Places, folder: Path, source: Source, capsys: pytest.CaptureFixture[str]
) -> tuple[dict[str, int], dict[int, bytes | None]]:
    """The books, and all histories as the frontend reads them."""
    publish(source.schema, folder / "snapshots", dimension=4, embedding=8)
    log, served = places.open_log(), impressions(source, source.examples)
    told = list(outcomes(source.examples, served))
    log.append(outcome.TOPIC, outcome.encode(told), len(told), os.urandom(16))
    for start in range(0, len(served), 100):
        rows = served[start : start + 100]
        assert log.append(impression.TOPIC, impression.encode(rows), len(rows), str(start).encode())
    log.close()
    arguments = ["--dir", str(folder), "--log", places.log, "--store", places.store, "--workers", "local:0"]
    assert main(["run", *arguments, "--drain", "--keep-priority", "--idle-s", "0.001", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["impressions"]["unaccounted"] == report["outcomes"]["unaccounted"] == 0
    histories = dict(read(places.store, np.unique(source.examples.user).tolist()))
    return report["impressions"] | {f"outcomes_{k}": v for k, v in report["outcomes"].items()}, histories


def test_the_same_comes_out_wherever_log_and_store_are(
    urls: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Source("simulator", *simulate(0, Scale(rows=ROWS, days=2, users=40, ads=30)))
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    embedded = run(Places.under(here), here, source, capsys)
    places = Places(urls[0], there / "join.sqlite", there / "stream", urls[1], there / "snapshots")
    assert run(places, there, source, capsys) == embedded
    assert embedded[0]["logged"] == ROWS
    assert sum(value is not None for value in embedded[1].values()) > 10
    assert not (there / "log.sqlite").exists()
    assert not (there / "store").exists()

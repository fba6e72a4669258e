"""The verdict on a stream: it holds every example once, annotated, or the bench says what is wrong."""

import os
from pathlib import Path

import pyarrow as pa

from bench.scale.actor_kills import fate, filled
from exfm.augment.join import example
from exfm.augment.places import Places
from exfm.commands.annotate import main
from exfm.events.log import BEGIN


def annotate(folder: Path) -> None:
    where = ["--dir", str(folder), "--store", "none", "--workers", "local:0", "--keep-priority"]
    assert main(["annotate", *where, "--drain"]) == 0


def first_row(places: Places) -> pa.RecordBatch:
    output = places.open_output()
    (record, *_) = output.read(example.TOPIC, BEGIN, 1)
    output.close()
    return example.decode(record.payload).slice(0, 1)


def add(places: Places, row: pa.RecordBatch) -> None:
    output = places.open_output()
    output.append(example.TOPIC, example.encode(row), 1, os.urandom(16))
    output.close()


def test_an_example_that_is_missing_or_doubled_is_told(tmp_path: Path) -> None:
    places = filled(tmp_path, 200)
    annotate(tmp_path)
    good = fate(places)
    assert good["annotated_once"]
    assert good["examples"] > 100
    row = first_row(places)
    place = row.schema.get_field_index("key")
    add(places, row.set_column(place, row.schema.field(place), pa.array([bytes(16)], row.schema.field(place).type)))
    assert fate(places) == {**good, "annotated_once": False, "examples": good["examples"] + 1, "missing": 1}
    annotate(tmp_path)
    assert fate(places)["annotated_once"]
    add(places, row)
    annotate(tmp_path)
    assert fate(places) == {**good, "annotated_once": False, "examples": good["examples"] + 1, "doubled": 1}

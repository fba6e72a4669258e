"""A change of snapshots: nobody waits for it."""

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exfm.augment.annotate.change import Change, Successor
from exfm.data.annotated import StreamReader
from exfm.distill.stream import encode
from exfm.models.checkpoint import load_checkpoint


def test_a_swap_whose_counters_take_long_stops_nobody(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream is read again on another thread, which stands still here while the loop settles everything."""
    plant.join(0, 150)
    annotator = plant.open()
    plant.drain(annotator)
    checkpoint = load_checkpoint(plant.snapshots.path("first"))  # other settings, so other counters
    other = replace(checkpoint, lineage={**checkpoint.lineage, "data": "simulator"})
    other.save(plant.folder / "other.pt")
    plant.snapshots.publish(plant.folder / "other.pt", "other")
    asked, released, read = threading.Event(), threading.Event(), StreamReader.read

    def slow(reader: StreamReader, after_row: int = 0) -> Any:
        if threading.current_thread().name == "exfm-snapshot":
            asked.set()
            assert released.wait(20)
        return read(reader, after_row)

    monkeypatch.setattr(StreamReader, "read", slow)
    annotator.step()
    assert asked.wait(20)
    plant.join(150)
    assert plant.drain(annotator) == 150
    assert annotator.snapshot.name == "first"
    released.set()
    plant.until_taken_over(annotator, "other")
    annotator.close()
    again = plant.open()
    for part in plant.parts():
        rows = np.concatenate(list(encode(part.examples, again.snapshot.schema).values()), 1)
        made, expected = (each._preparer._counters.columns(part.examples, rows) for each in (annotator, again))
        np.testing.assert_allclose(made, expected, atol=1e-6)
    again.close()


def test_whatever_ends_its_work_is_told() -> None:
    class OddError(BaseException):
        pass

    def work(_: threading.Event) -> Successor:
        raise OddError

    with pytest.raises(OddError):
        Change(work)._future.result(5)

"""Events of a run, as other programs write them."""

from pathlib import Path

import pytest

from loadtest.commands.output import EventsError, events_since, laid_over, read_events
from loadtest.report.document import Event


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_text('{"at_s": 2, "label": "first"}\n\n{"unix_s": 1007.5, "label": "second"}\n')
    return path


def test_the_time_of_day_counts_from_the_start(events: Path) -> None:
    assert [(each.at_s, each.label) for each in read_events(events, 1000.0)] == [(2.0, "first"), (7.5, "second")]
    assert read_events(None) == []


@pytest.mark.parametrize("line", ["x", "[]", "{}", '{"at_s": "soon", "label": "x"}', '{"at_s": 1e999, "label": "x"}'])
def test_a_line_that_is_no_event_is_named(events: Path, line: str) -> None:
    events.write_text(f"{events.read_text()}{line}\n")
    with pytest.raises(EventsError, match=r"events.jsonl:4: expected"):
        read_events(events)


def test_after_a_run_a_broken_line_costs_the_events_and_no_more(
    events: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(events_since(events, 1000.0)) == 2
    events.write_text("broken\n")
    assert events_since(events, 1000.0) == []
    assert "events.jsonl:1" in capsys.readouterr().err


def test_several_drives_share_the_axis_of_the_one_that_is_drawn(events: Path) -> None:
    drives = [(1000.0, [Event(1.0, "version 2")]), (1020.0, []), (1040.0, [Event(3.0, "version 3")])]
    made = [(each.at_s, each.label) for each in laid_over(events, drives, 1040.0)]
    assert made == [(-39.0, "version 2"), (-38.0, "first"), (-32.5, "second"), (3.0, "version 3")]
    assert laid_over(None, drives[1:2], 1040.0) == []

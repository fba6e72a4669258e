"""Reports neither wait for a parent that doesn't read, nor arrive in pieces."""

import json
import os

from serving.processes.report import ReportWriter, read_report


def test_a_parent_that_does_not_read_costs_reports_and_not_time() -> None:
    reading, writing = os.pipe()
    writer = ReportWriter(writing)
    for number in range(200):
        writer.send({"number": number, "filler": "x" * 5000})
    got = os.read(reading, 1 << 20)
    for _ in range(3):
        writer.send({"number": 200})
    got += os.read(reading, 1 << 20)
    os.close(writing)
    numbers = [json.loads(line)["number"] for line in got.splitlines()]
    assert numbers == sorted(numbers)
    assert numbers[0] == 0
    assert numbers[-1] == 200
    assert len(numbers) < 200
    os.close(reading)


def test_a_parent_that_has_gone_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ReportWriter(writing).send({})
    os.close(writing)


def test_what_is_no_report_is_none() -> None:
    assert read_report(b"Traceback\n") == {}
    assert read_report(b"[1]\n") == {}
    assert read_report(b'{"state": {}}\n') == {"state": {}}

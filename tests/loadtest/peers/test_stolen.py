"""The share of CPU time that the host gave to others."""

from collections import namedtuple

import psutil
import pytest

from loadtest.peers.stolen import Stolen, told

Times = namedtuple("Times", "user system idle guest guest_nice steal")
Untold = namedtuple("Untold", "user system idle guest guest_nice")


def clock(monkeypatch: pytest.MonkeyPatch, *readings: tuple[float, ...]) -> Stolen:
    left = iter(readings)
    monkeypatch.setattr(psutil, "cpu_times", lambda: next(left))
    return Stolen()


def test_the_share_is_of_all_time_with_the_guests_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = clock(monkeypatch, Times(10.0, 5.0, 100.0, 4.0, 0.0, 3.0), Times(14.0, 6.0, 102.0, 6.0, 0.0, 6.0))
    assert made.share() == pytest.approx(3 / 10)


def test_a_kernel_that_does_not_tell_and_no_time_at_all_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clock(monkeypatch, *[Untold(1.0, 1.0, 1.0, 0.0, 0.0)] * 2).share() is None
    assert clock(monkeypatch, *[Times(1.0, 1.0, 1.0, 0.0, 0.0, 0.0)] * 2).share() is None


def test_this_machine_tells_a_share_or_nothing() -> None:
    share = Stolen().share()
    assert share is None or 0.0 <= share <= 1.0


def test_of_nothing_known_nothing_is_told() -> None:
    assert told({}) == told({"exfm": [None]}) == ""

"""The busiest second counts, whatever the others were like."""

import pytest

from loadtest.swarm import busy
from loadtest.swarm.busy import Busy


def shares(monkeypatch: pytest.MonkeyPatch, looks: list[tuple[float, float]]) -> list[float]:
    """What is said at each look, of an instant and the CPU seconds used up to it."""
    made, said = Busy(), []
    for now_s, cpu_s in looks:
        monkeypatch.setattr(busy, "own_cpu_s", lambda cpu_s=cpu_s: cpu_s)
        said.append(made.share(now_s))
    return said


def test_a_busy_second_among_idle_ones_is_not_averaged_away(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [(10.0, 5.0), (11.0, 5.1), (12.0, 6.05), (13.0, 6.1), (20.0, 6.2)]
    assert shares(monkeypatch, looks) == pytest.approx([0.0, 0.1, 0.95, 0.95, 0.95])


def test_what_was_used_before_the_first_look_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shares(monkeypatch, [(10.0, 99.0), (10.5, 99.2)]) == pytest.approx([0.0, 0.2])

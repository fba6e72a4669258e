"""Which loads a shape offers, for how long, and what became of each."""

import numpy as np
import pytest

from loadtest.arrivals.schedule import arrivals
from loadtest.arrivals.shapes import SHAPES
from loadtest.driving.target import Reply
from loadtest.report.sweep import knee_of
from loadtest.swarm.loads import PARTS, loads_of
from loadtest.verdict.tally import Tally


@pytest.mark.parametrize(
    ("shape", "loads"), [("steady", 1), ("ramp", PARTS), ("spike", 3), ("overload", 5), ("bursty", 2)]
)
def test_every_instant_has_a_load_and_each_its_time(shape: str, loads: int) -> None:
    profile = SHAPES[shape](200.0, 60.0, 3)
    made = loads_of(profile)
    assert len(made.seconds) == len(made.said) == loads
    assert made.seconds.sum() == pytest.approx(60.0)
    counts = np.bincount([made.at(at_s) for at_s in arrivals(profile, 1).tolist()], minlength=loads)
    at_s = np.linspace(0, 60, 60_001)[:-1]
    where = np.array([made.at(each) for each in at_s.tolist()])
    rates = np.array([profile.rate_at(each) for each in at_s.tolist()])
    for index in range(loads):
        assert (where == index).sum() / 1000 == pytest.approx(made.seconds[index], abs=0.05)
        assert counts[index] / made.seconds[index] == pytest.approx(rates[where == index].mean(), rel=0.25)


def test_a_sweep_has_a_line_per_load_and_a_knee_where_the_goodput_stays_behind() -> None:
    loads = loads_of(SHAPES["spike"](100.0, 50.0, 0))
    tallies = {index: Tally(0.025) for index in range(3)}
    for index, (held, lost) in enumerate(((2000, 0), (4000, 6000), (2000, 0))):
        for count, latency_s in ((held, 0.004), (lost, 0.2)):
            for _ in range(count):
                tallies[index].add(Reply(True, "full"), latency_s, 0.0)
    sweep = loads.sweep(tallies)
    assert [line["offered_rps"] for line in sweep] == pytest.approx([100.0, 100.0, 1000.0])
    assert [line["goodput_rps"] for line in sweep] == pytest.approx([100.0, 100.0, 400.0])
    assert sweep[2]["late_share"] == 0.6
    assert knee_of(sweep) == pytest.approx(100.0)
    assert knee_of(sweep[:2]) is None  # all held: the knee lies beyond


def test_one_load_alone_is_no_sweep() -> None:
    tally = Tally(0.025)
    tally.add(Reply(True, "full"), 0.004, 0.0)
    assert loads_of(SHAPES["steady"](10.0, 1.0, 0)).sweep({0: tally}) == []

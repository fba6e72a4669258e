"""The bench asks LoadGen about the capacity that it found."""

import os
import re
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.peers import __main__ as bench
from bench.peers.lacks import unconfirmed
from loadtest.peers.errors import PeerUnavailableError
from loadtest.peers.own_versions import triton_version
from loadtest.peers.systems import Exfm, Running
from loadtest.referee.job import Carried
from loadtest.referee.referee import LEAST_QUERIES, Ruling, confirm
from loadtest.referee.summary import Summary

BUSY = ("the generator used 99% of its core",)


def asked(repository: Path, out: Path) -> Namespace:
    return Namespace(
        model_repository=repository,
        vertical="feed_click",
        serve_arguments="--note 'a b'",
        out=out / "run",
        bench_out=out,
        seconds=4.0,
        candidates=20,
        seed=7,
    )


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Our server starts without taking time; what it was started with, and on its address nobody listens."""
    seen: list[Any] = []

    @contextmanager
    def running(system: Exfm, log: Path) -> Iterator[Running]:
        seen.append((system.arguments, log.name))
        yield Running(0, "127.0.0.1:1", lambda _: pytest.fail("nobody calls"))

    monkeypatch.setattr(Exfm, "running", running)
    return seen


def ruling_by(seen: list[Any], valid_up_to: float, faults: tuple[str, ...] = ()) -> Callable[..., Ruling]:
    """A LoadGen that enters what it was asked."""

    def measure(address: str, vertical: str, rate: float, bound_s: float, out: Path, **options: Any) -> Ruling:
        seen.append((address, vertical, round(rate, 6), bound_s, out.name, options))
        summary = Summary(rate <= valid_up_to, "Server", rate)
        return Ruling(rate, 1.0, options["call"], summary, Carried({"full": 9}, 0.5, 0.1, 0.0, faults), out)

    return measure


def test_it_warms_the_server_then_asks_as_the_capacity_was_found(
    published_repository: Path, started: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(bench, "measure", ruling_by(seen, 97.0))
    made = bench.referee(asked(published_repository, tmp_path), 100.0)
    assert started == [(("--note", "a b"), "loadgen.log")]
    assert [(rate, options["least_queries"]) for _, _, rate, _, _, options in seen] == [
        (80.0, 1),
        (100.0, LEAST_QUERIES),
        (96.0, LEAST_QUERIES),
    ]
    options = {"seconds": 4.0, "candidates": "20", "seed": 7, "call": "stream"}
    for address, vertical, rate, bound_s, folder, given in seen:
        assert (address, vertical, bound_s, folder) == ("127.0.0.1:1", "feed_click", 0.25, f"{rate:.0f}")
        assert given | options == given
    assert (made["valid"], made["qps"], made["capacity_rps"], made["confirmed"]) == (True, 96.0, 100.0, True)
    assert [each["valid"] for each in made["rulings"]] == [False, True]


def test_a_start_that_fails_once_is_tried_again(
    published_repository: Path, started: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Exfm.running

    @contextmanager
    def running(system: Exfm, log: Path) -> Iterator[Running]:
        with begin(system, log) as made:
            if len(started) == 1:
                raise PeerUnavailableError("not ready at first")
            yield made

    monkeypatch.setattr(Exfm, "running", running)
    monkeypatch.setattr(bench, "measure", ruling_by([], 100.0))
    assert bench.referee(asked(published_repository, tmp_path), 100.0)["confirmed"]
    assert len(started) == 2


@pytest.mark.parametrize("faults", [(), BUSY])
def test_a_capacity_that_is_not_confirmed_is_lacking_and_why(
    published_repository: Path,
    started: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    faults: tuple[str, ...],
) -> None:
    monkeypatch.setattr(bench, "measure", ruling_by([], 50.0, faults))
    made = bench.referee(asked(published_repository, tmp_path), 100.0)
    assert started
    assert made["word"] == ("INCONCLUSIVE" if faults else "INVALID")
    assert (made["confirmed"], len(made["rulings"])) == (False, 3)
    said = unconfirmed(made)
    assert "92.0/s" in said
    assert ("inconclusive" in said) is bool(faults)


def test_a_real_loadgen_judges_a_real_server(
    triton_environment: object, published_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert triton_environment
    monkeypatch.setattr(bench, "LEAST_QUERIES", 100)
    monkeypatch.setattr(bench, "confirm", partial(confirm, shares=(1.0,)))
    given = asked(published_repository, tmp_path)
    # Relative, as by default; the server runs in a folder of its own.
    given.serve_arguments, given.seconds, given.out = "", 1.0, Path(os.path.relpath(tmp_path / "run"))
    made = bench.referee(given, 60.0)
    assert re.fullmatch(r"\d+\.\d+\.\d+", triton_version(tmp_path / "run" / "logs" / "loadgen.triton")["tritonserver"])
    assert made["call"] == "stream"
    assert made["capacity_rps"] == 60.0
    # So few queries are never enough for LoadGen's early stopping; what it asked was answered all the same.
    assert [each["target_qps"] for each in made["rulings"]] == [60.0]
    for ruling in made["rulings"]:
        assert ruling["tiers"]["full"] > 0
        assert 0.0 < ruling["cpu_share"] < 2.0
        assert (Path(ruling["files"]) / "mlperf_log_summary.txt").is_file()

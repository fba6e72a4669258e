"""A capacity's bounds, what is said when there is none, and how two are compared."""

import json
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from loadtest.commands import capacity
from loadtest.commands.main import main
from loadtest.driving import measure
from loadtest.driving.target import Reply
from loadtest.verdict.tally import Tally


def test_no_capacity_because_of_the_generator_says_nothing_of_the_server(
    scripted: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "quiet", nullcontext)  # collecting garbage would take most of the time
    monkeypatch.setattr(capacity, "poisson", lambda *_: [0.0])
    monkeypatch.setattr(capacity, "PATIENCE", 1)
    monkeypatch.setattr(capacity, "PARTS", 1)

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = main(["capacity", "--out", str(tmp_path), "--json", "--max-sent-late", "1", *arguments])
        return code, json.loads(capsys.readouterr().out)

    quick = ("--first", "3", "--probe-s", "0.1", "--confirm-s", "0.1", "--timeout-ms", "0.5")
    with scripted(spoil=lambda _: time.sleep(0.005)) as address:
        asked = ["--target", address, "--vertical", "selftest", "--candidates", "20", *quick]
        code, made = run(*asked, "--max-generator-cpu", "1")
        assert (code, made["verdict"], made["capacity_rps"], made["invalid"]) == (1, "fail", None, [])
        code, made = run(*asked, "--max-generator-cpu", "0")
    assert (code, made["verdict"]) == (3, "invalid")
    assert "of its core" in made["invalid"][0]
    assert all(probe["invalid"] for probe in made["probes"])


def probe(rate_rps: float, hits: int, offered: int = 1000, invalid: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"rate_rps": rate_rps, "hits": hits, "offered": offered, "invalid": list(invalid)}


def test_the_bounds_of_a_capacity_are_of_all_tries() -> None:
    held = [probe(50, 1000), probe(80, 1000), probe(80, 990)]
    assert capacity.sure_bounds(held, 100.0) == (80, None)
    # A rate that held once of three times is none that holds for sure; one that the generator spoiled tells nothing.
    tries = [
        probe(100, 1000),
        probe(100, 900),
        probe(100, 900),
        probe(120, 985),
        probe(140, 900),
        probe(130, 0, 9, ("x",)),
    ]
    assert capacity.sure_bounds([*held, *tries], 100.0) == (80, 140)


def test_capacities_are_compared_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(0.025)
    tally.add(Reply(True, "full"), 0.004, 0.0)

    def file(name: str, kind: str, rate_rps: float, timeout_ms: float = 25.0) -> str:
        facts = {"conditions": {"timeout_ms": timeout_ms}, "invalid": [], "tally": tally.plain()}
        bounds = [rate_rps * 0.97, rate_rps * 1.03]
        made = {"kind": kind, "format_version": 1, "capacity_rps": rate_rps, "capacity_interval_rps": bounds}
        (tmp_path / name).write_text(json.dumps({**made, **facts}))
        return str(tmp_path / name)

    pair = file("one", "capacity", 200.0), file("two", "capacity", 150.0)
    assert main(["compare", *pair, "--json"]) == 1
    made = json.loads(capsys.readouterr().out)
    assert made["worse"] == ["capacity_rps"]
    assert made["ratios"].keys() == {"capacity_rps"}
    assert made["ratios"]["capacity_rps"]["value"] == 0.75
    assert main(["compare", *reversed(pair), "--json"]) == 0
    capsys.readouterr()
    pair = file("one", "overload", 200.0), file("two", "overload", 150.0, timeout_ms=50.0)
    assert main(["compare", *pair, "--json"]) == 3
    differences = json.loads(capsys.readouterr().out)["differences"]
    assert differences == ["timeout_ms: 25.0 and 50.0", "capacity_rps: 200.0 and 150.0"]

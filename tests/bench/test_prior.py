import json

import pytest

from bench import prior


def test_both_ways_answer_the_same_and_are_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prior, "CATALOGUES", (2000,))
    monkeypatch.setattr(prior, "ROUNDS", 5)
    assert prior.main() == 0
    numbered, scattered = map(json.loads, capsys.readouterr().out.splitlines())
    assert (numbered["keys"], scattered["keys"]) == ("numbered", "scattered")
    for figures in (numbered, scattered):
        assert figures["lookup_ratio"] > 0
        assert figures["order_us"] > 0

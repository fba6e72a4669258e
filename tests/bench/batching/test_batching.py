"""The whole bench, shortly, against a real Triton; both models must say the same before anything is measured."""

import json
from pathlib import Path

import pytest

from bench.batching.__main__ import main


@pytest.mark.usefixtures("triton_environment")
def test_the_bench_writes_what_it_measured(
    published_repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "--seconds 0.5 --candidates 50 --multiples 2 --repeats 1 --base-rps 40 --json --variants triton<=4 edf-2"
    assert main([*text.split(), "--model-repository", str(published_repository), "--out", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((tmp_path / "batching.json").read_text(encoding="utf-8"))
    assert [one["variant"] for one in result["summaries"]] == ["triton<=4", "edf-2"]
    for one in result["samples"]:
        ends = (
            one["late_share"] + one["fell_back_share"] + one["failed_share"] + one["goodput_rps"] / one["offered_rps"]
        )
        assert ends == pytest.approx(1.0)
        assert one["failed_share"] == 0.0
    assert result["ratios"][0]["over"] == "triton<=4"


def test_bad_usage_is_said_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--variants", "edf-0"])
    assert "'edf-0' is none of" in capsys.readouterr().err
    assert main(["--model-repository", str(tmp_path / "none"), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1

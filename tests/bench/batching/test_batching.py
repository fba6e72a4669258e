"""The whole bench, shortly, against a real Triton; both models must say the same before anything is measured."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.batching.__main__ import main
from bench.batching.jagged import CALL_S, JaggedModel, jagged_request
from bench.batching.variant import OWNER, jagged_name, write_both
from serving.budget.deadline import Deadline
from serving.errors import BadScoresError
from serving.inference.endpoint import TritonEndpoint
from serving.inference.triton import TritonScorer, backend_error
from serving.query import RankQuery
from serving.repository import load_catalog
from tests.conftest import MakeRequest

if TYPE_CHECKING:
    from serving.embedded.environment import TritonEnvironment


async def test_a_jagged_call_answers_like_single_ones_and_refuses_a_bad_owner(
    published_repository: Path, triton_environment: "TritonEnvironment", make_request: MakeRequest, tmp_path: Path
) -> None:
    import grpc

    from serving.embedded.process import EmbeddedTriton

    vertical = load_catalog(published_repository).find("feed_click")
    write_both(published_repository, vertical, tmp_path / "both")
    queries = [
        RankQuery(str(seed), vertical, make_request(vertical.schema, size, seed), np.arange(size), np.ones(size))
        for seed, size in enumerate((1, 40, 7))
    ]
    models = (vertical.name, jagged_name(vertical))
    with EmbeddedTriton(triton_environment, tmp_path / "both", models, tmp_path / "triton.log") as triton:
        endpoint = TritonEndpoint(triton.address)
        together = await JaggedModel(endpoint, jagged_name(vertical)).score_together(queries)
        for query, one in zip(queries, together, strict=True):
            alone = await TritonScorer(endpoint).score(query, Deadline.after(5.0))
            np.testing.assert_allclose(one.probability, alone.probability, atol=1e-6)
            assert one.unknown == alone.unknown
        assert sum(one.unknown for one in together) > 0
        bad = jagged_request(jagged_name(vertical), queries)
        place = [entry.name for entry in bad.inputs].index(OWNER)
        bad.raw_input_contents[place] = np.full(48, 3, "<i8").tobytes()
        with pytest.raises(grpc.aio.AioRpcError, match="does not say whose") as refused:
            await endpoint.infer(bad, CALL_S)
        assert isinstance(backend_error(refused.value.code(), ""), BadScoresError)
        await endpoint.close()


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

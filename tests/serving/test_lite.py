"""Tier `lite`: a smaller model of the same vertical, from the repository to the answer."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from exfm.features.prior_file import NAME, PriorFile, write_prior
from exfm.features.schema import Schema
from serving.budget.deadline import Deadline
from serving.catalog import Catalog, Vertical
from serving.client import BlockingRankingClient, RankCall, Tier
from serving.errors import BusyError, UnavailableError
from serving.inference.lite import LiteScorer
from serving.inference.scorer import Scores
from serving.ladder.tier import Tier as Rung
from serving.query import RankQuery
from serving.repository import load_catalog, triton_configs
from serving.rpc.codec import decode, parse
from serving.rpc.pb import ranking_pb2 as pb

if TYPE_CHECKING:
    from serving.embedded.environment import TritonEnvironment

CALL = RankCall("feed_click", ad_ids=np.arange(100, 110), ads={"ad": np.arange(10)}, user={"user": 1})
LITE = "feed_click_lite"


@pytest.fixture(scope="module")
def lite_repository(
    published_repository: Path,
    tiny_schema: Schema,
    make_checkpoint: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """`published_repository` with a lite model for `feed_click`; not to be changed."""
    from exporter.export import export

    folder = tmp_path_factory.mktemp("lite")
    shutil.copytree(published_repository, folder / "repository")
    full = make_checkpoint(tiny_schema, "feed_click", 5, backbone="linear", dimension=2)
    (own,) = full.schema.verticals
    lite = replace(
        full,
        schema=replace(full.schema, verticals=(replace(own, name=LITE),)),
        vertical=LITE,
        lineage={**full.lineage, "tier": "lite", "serves": "feed_click"},
    )
    lite.save(folder / "lite.pt")
    published = export(folder / "lite.pt", folder / "repository")
    assert published.path == folder / "repository" / LITE / "1"
    return folder / "repository"


@pytest.fixture
def changed(lite_repository: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    shutil.copytree(lite_repository, tmp_path / "repository", copy_function=shutil.copyfile)
    return tmp_path / "repository"


def test_the_catalog_pairs_a_vertical_with_its_lite_model(lite_repository: Path) -> None:
    catalog = load_catalog(lite_repository)
    assert sorted(catalog) == ["feed_click", "feed_long_view"]
    lite = catalog["feed_click"].lite
    assert lite
    assert (lite.name, lite.version, lite.tasks) == (LITE, 1, catalog["feed_click"].tasks)
    assert catalog["feed_long_view"].lite is None
    assert sorted(catalog.models) == ["feed_click", LITE, "feed_long_view"]
    assert sorted(triton_configs(lite_repository, catalog)) == ["feed_click", LITE, "feed_long_view"]


def test_a_lite_model_of_another_schema_is_left_out(changed: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = changed / LITE / "1" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "lineage": {"tier": "lite", "serves": "feed_long_view"}}))
    catalog = load_catalog(changed)
    assert sorted(catalog.models) == ["feed_click", "feed_long_view"]
    assert "feed_click_lite is left out: version 1 of feed_long_view has another schema" in caplog.text


def test_a_lite_model_without_its_vertical_is_left_out(changed: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(changed / "feed_click")
    assert sorted(load_catalog(changed).models) == ["feed_long_view"]
    assert "tier lite of 'feed_click', which is not published" in caplog.text


@pytest.fixture
def paired(catalog: Catalog) -> Catalog:
    """The catalog, with a lite model in version 8 for `feed_click`."""
    full = catalog["feed_click"]
    return Catalog({**catalog, "feed_click": replace(full, lite=replace(full, name=LITE, version=8))})


class Backend:
    """Scores by the model that is asked; `down` ones fail every request and canary, `busy` ones requests alone."""

    def __init__(self, down: tuple[str, ...] = (), busy: tuple[str, ...] = ()) -> None:
        self.down = down
        self.busy = busy

    async def score(self, query: RankQuery, _: Deadline) -> Scores:
        model = query.vertical
        if model.name in self.down:
            raise UnavailableError("down")
        if query.request_id == "canary":
            return Scores(model.golden.probability)
        if model.name in self.busy:
            raise BusyError("full")
        rate = 0.75 if model.name == LITE else 0.25
        return Scores(np.full((len(query), len(model.tasks)), rate, np.float32))


async def _rank(address: str, message: pb.RankRequest) -> pb.RankResponse:
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.unary_unary("/exfm.ranking.v1.RankingService/Rank")
        return pb.RankResponse.FromString(await call(message.SerializeToString(), timeout=5))


async def test_a_query_is_put_to_the_lite_model(paired: Catalog, make_message: Callable[..., pb.RankRequest]) -> None:
    vertical = paired["feed_click"]
    assert vertical.lite
    asked: list[Vertical] = []

    class Noting:
        async def score(self, query: RankQuery, _: Deadline) -> Scores:
            asked.append(query.vertical)
            return Scores(np.zeros((len(query), 2), np.float32))

    query = decode(parse(make_message(3).SerializeToString()), vertical)
    await LiteScorer(Noting(), vertical.lite).score(query, Deadline.after(1))
    assert asked == [vertical.lite]


async def test_the_answer_says_that_the_lite_model_made_it(
    running: Callable[..., Any], paired: Catalog, make_message: Callable[..., pb.RankRequest], eventually: Any
) -> None:
    async with running(Backend(busy=("feed_click",)), paired) as (address, worker):
        assert worker.ladders["feed_click"].tiers == (Rung.FULL, Rung.TRIMMED, Rung.LITE, Rung.PRIOR)
        await eventually(lambda: worker.lite_guards[LITE][0].trusted)
        answer = await _rank(address, make_message(3))
        assert (answer.tier, answer.tier_reason) == (pb.TIER_LITE, "backend_busy")
        assert (answer.model.name, answer.model.version) == (LITE, 8)
        assert set(answer.scores[0].probabilities) == {0.75}
        assert worker.sites[0].estimates[LITE].calls == 1
        other = await _rank(address, make_message(3, vertical="feed_long_view"))
        assert (other.model.name, other.model.version) == ("feed_long_view", 3)


async def test_a_lite_model_that_is_not_trusted_costs_its_tier_alone(
    running: Callable[..., Any], paired: Catalog, make_message: Callable[..., pb.RankRequest], eventually: Any
) -> None:
    backend = Backend(down=(LITE,))
    async with running(backend, paired, canary_s=0.02) as (address, worker):
        answer = await _rank(address, make_message(3))
        assert (answer.tier, answer.model.name) == (pb.TIER_FULL, "feed_click")
        await eventually(lambda: "down" in worker.state()["verticals"]["feed_click"]["lite"]["canary"])
        assert worker.readiness.ready
        assert not worker.lite_guards[LITE][0].trusted
        backend.busy = ("feed_click",)
        assert (await _rank(address, make_message(3))).tier == pb.TIER_PRIOR
        backend.down = ()
        await eventually(lambda: worker.state()["verticals"]["feed_click"]["lite"]["trusted"])
        assert (await _rank(address, make_message(3))).tier == pb.TIER_LITE


async def test_a_vertical_whose_tiers_leave_lite_out_does_not_ask_it(
    running: Callable[..., Any], paired: Catalog, make_message: Callable[..., pb.RankRequest]
) -> None:
    tiers = {"feed_click": (Rung.FULL, Rung.PRIOR)}
    async with running(Backend(busy=("feed_click",)), paired, tiers=tiers) as (address, worker):
        assert worker.ladders["feed_click"].tiers == (Rung.FULL, Rung.PRIOR)
        assert worker.lite_guards == {}
        assert (await _rank(address, make_message(3))).tier == pb.TIER_PRIOR


def _until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    until_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_a_real_server_loads_both_models_and_sees_a_new_prior_without_a_restart(
    triton_environment: "TritonEnvironment", changed: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "serving", "--listen", "127.0.0.1:0", "--json", "--model-repository", str(changed)]
    command += ["--tiers", "feed_click=lite,prior", "--tiers", "feed_long_view=prior"]
    env = {**os.environ, "EXFM_TRITON_ENV": str(triton_environment.path)}
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=env) as process,
    ):
        try:
            assert process.stdout
            ready = json.loads(process.stdout.readline())
            with BlockingRankingClient(ready["address"]) as client:
                _until(lambda: client.rank(CALL, timeout_s=5).tier is Tier.LITE)
                long_view = replace(CALL, vertical="feed_long_view")
                before = client.rank(long_view, timeout_s=5)
                assert before.tier is Tier.PRIOR
                path = changed / "feed_long_view" / NAME
                path.write_bytes(b"torn")
                rate = np.full((10, 1), 0.875, np.float32)
                fresh = PriorFile("feed_long_view", ("long_view",), np.arange(100, 110), rate, rate[0], 1, 1, 1)
                write_prior(path, fresh)
                _until(lambda: set(client.rank(long_view, timeout_s=5).probabilities["long_view"]) == {0.875})
                refused = log.read_text().count("a refreshed prior is refused")
                path.write_bytes(path.read_bytes()[:-40])
                _until(lambda: log.read_text().count("a refreshed prior is refused") >= refused + 1)
                assert set(client.rank(long_view, timeout_s=5).probabilities["long_view"]) == {0.875}
            assert process.poll() is None
        finally:
            process.terminate()
            assert process.wait(20) == 0

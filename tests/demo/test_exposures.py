import asyncio

import grpc
import numpy as np
import pytest

import demo.exposures
from demo.exposures import SHOWN, exposures, serve_exposures, tell
from demo.requests import Blocks, Request
from demo.server import DemoError
from loadtest.selftest.server import SCHEMA
from serving.client import InvalidRequestError, OutcomeCall, RankingClient
from tests.demo.ranking import Servicer, rankable, running


def request(ads: int, seen: int) -> Request:
    keys = np.arange(ads) * 10
    blocks: Blocks = {"user_ids": np.zeros((1, 2), np.int64), "ad_ids": keys[:, None], "ad_numbers": np.ones((ads, 3))}
    return Request(
        "feed", 7, blocks, keys, np.arange(ads, dtype=np.float64) + 0.5, np.arange(seen, dtype=np.float32) % 2
    )


@pytest.mark.parametrize(("ads", "seen", "kept"), [(50, 3, 3), (50, SHOWN + 4, SHOWN), (5, 5, 5)])
def test_only_what_the_user_saw_is_shown(ads: int, seen: int, kept: int) -> None:
    (made,) = exposures([request(ads, seen)])
    np.testing.assert_array_equal(made.ads, np.arange(kept) * 10)
    np.testing.assert_array_equal(made.bids, np.arange(kept) + 0.5)
    assert made.blocks["ad_ids"].shape == (kept, 1)
    assert made.blocks["ad_numbers"].shape == (kept, 3)
    assert made.blocks["user_ids"].shape == (1, 2)


def test_a_server_that_takes_no_outcomes_is_named(free_port: int) -> None:
    async def call() -> None:
        async with RankingClient(f"127.0.0.1:{free_port}") as client:
            await tell(client, [OutcomeCall("a", 1, "click")])

    with pytest.raises(DemoError, match="does not take outcomes"):
        asyncio.run(call())


@pytest.mark.parametrize(
    ("refused", "told"), [(0, ["shown-0-0", "shown-1-0"]), (4, ["shown-0-4", "shown-1-0"]), (5, ["shown-1-0"])]
)
async def test_a_refused_exposure_is_shown_again_and_given_up_at_last(
    refused: int, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo.exposures, "PAUSE_S", 0.0)
    monkeypatch.setattr(demo.exposures, "AT_ONCE", 1)
    servicer, clicked, steps = (
        Servicer(refused, grpc.StatusCode.RESOURCE_EXHAUSTED),
        rankable(np.array([0, 1, 0], np.float32)),
        [],
    )
    async with running(servicer) as address:
        acknowledged = await serve_exposures(address, [clicked] * 2, SCHEMA, "shown", lambda: steps.append(1))
    assert servicer.outcomes == told
    assert acknowledged == len(told)
    assert len(steps) == 2


async def test_a_wrong_exposure_is_no_slow_machine() -> None:
    async with running(Servicer(1, grpc.StatusCode.INVALID_ARGUMENT)) as address:
        with pytest.raises(InvalidRequestError):
            await serve_exposures(address, [rankable()], SCHEMA, "shown", lambda: None)

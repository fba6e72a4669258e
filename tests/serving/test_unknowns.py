"""The page's words on values that the model does not know, held by a real Triton over a socket."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.client import RankCall, RankingClient, Tier
from serving.errors import UnavailableError
from serving.inference.endpoint import TritonEndpoint
from serving.inference.scorer import Scores
from serving.inference.triton import TritonScorer
from serving.repository import load_catalog

if TYPE_CHECKING:
    from serving.embedded.process import EmbeddedTriton

NEW = 10**15


def _call(**changed: Any) -> RankCall:
    ads = {"ad": [NEW, NEW + 1, NEW + 2], "genre": [10, 20, 30], "length": [1.0, 2.0, 3.0]}
    context = {"slot": 1, "tab": 1, "hour": 9.0}
    known: dict[str, Any] = {"user": {"user": NEW, "city": "oslo", "age": 20.0}, "context": context, "ads": ads}
    known["ads"] = {**ads, **changed.pop("ads", {})}
    return RankCall("feed_click", ad_ids=[NEW, NEW + 1, NEW + 2], **{**known, **changed})


async def _full(client: RankingClient, call: RankCall) -> Any:
    """The model's ranking; asked again if this machine's other work made it late."""
    for _ in range(20):
        ranking = await client.rank(call, timeout_s=5)
        if ranking.tier is Tier.FULL:
            return ranking
    raise AssertionError(ranking.tier_reason)


async def test_unknown_values_are_scored_and_those_outside_a_vocabulary_counted(
    embedded_triton: "EmbeddedTriton", published_repository: Path, running: Callable[..., Any]
) -> None:
    endpoint = TritonEndpoint(embedded_triton.address)
    served = load_catalog(published_repository)
    async with running(TritonScorer(endpoint), served) as (address, _), RankingClient(address) as client:
        # Ids have buckets, not a vocabulary.
        assert (await _full(client, _call())).unknown_values == 0
        assert (await _full(client, _call(ads={"genre": [10, 777, 778]}))).unknown_values == 2
        user = {"user": NEW, "city": "atlantis", "age": 20.0}
        strange = await _full(client, _call(user=user, ads={"genre": [10, 777, 778]}))
        assert strange.unknown_values == 3
        assert sorted(strange.ad_ids) == [NEW, NEW + 1, NEW + 2]
    await endpoint.close()


async def test_an_ad_that_the_prior_does_not_know_gets_the_default(
    published_repository: Path, running: Callable[..., Any]
) -> None:
    served = load_catalog(published_repository)

    class Gone:
        async def score(self, query: Any, until: Any) -> Any:  # noqa: ARG002 the protocol's
            if query.request_id != "canary":
                raise UnavailableError("gone")
            return Scores(query.vertical.golden.probability)

    async with running(Gone(), served) as (address, _), RankingClient(address) as client:
        ranking = await client.rank(_call(), timeout_s=5)
    assert ranking.tier is Tier.PRIOR
    default = served["feed_click"].prior.default
    for ad in ranking.ads:
        np.testing.assert_allclose([ad.probability[task] for task in ("click", "like")], default.tolist(), rtol=1e-6)

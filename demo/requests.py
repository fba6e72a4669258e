"""Ranking requests made of held-out rows: what each user really saw next, hidden among ads that compete for the place."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exfm.data.examples import Catalogue, Examples
from exfm.features.schema import Schema

Blocks = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Request:
    """One request with what became of it.

    Attributes:
        vertical: whom it asks.
        user: the user's key.
        blocks: the six feature blocks, one row for user and context, N rows for the ads.
        ads: int64 [N] keys, each once; the user's own exposures first.
        bids: float64 [N].
        outcomes: float32 [M], the first task's label of the first M candidates.
    """

    vertical: str
    user: int
    blocks: Blocks
    ads: NDArray[np.int64]
    bids: NDArray[np.float64]
    outcomes: NDArray[np.float32]


def held_out_requests(
    rows: Examples, ads: Catalogue, schema: Schema, vertical: str, candidates: int, seed: int
) -> Iterator[Request]:
    """One request per user and vertical, at the user's first held-out row, users in order of arrival.

    Args:
        rows: held-out examples in time order; no served model has learned from them.
        ads: what the other candidates are sampled from, without replacement.
        schema: the schema of `rows`, all features.
        vertical: only its rows count; its features are kept.
        candidates: ads per request; fewer if the catalogue is smaller.
        seed: of the sampling and the bids (log-normal, median 1).
    """
    sub = schema.for_vertical(vertical)
    task = schema.vertical(vertical).tasks[0]
    mine = rows.take(np.flatnonzero(~np.isnan(rows.labels[task]))).project(schema, sub)
    pool = ads.project(schema, sub)
    draw = np.random.default_rng(seed)
    _, first = np.unique(mine.user, return_index=True)
    by_user = np.argsort(mine.user, kind="stable")
    sorted_users = mine.user[by_user]
    for start in np.sort(first):
        user = mine.user[start]
        own = by_user[np.searchsorted(sorted_users, user) : np.searchsorted(sorted_users, user, side="right")]
        yield _request(mine.take(own), pool, vertical, task, candidates, draw)


def _request(
    own: Examples, pool: Catalogue, vertical: str, task: str, candidates: int, draw: np.random.Generator
) -> Request:
    _, once = np.unique(own.ad, return_index=True)
    own_ads = own.take(np.sort(once)[:candidates])
    others = np.flatnonzero(~np.isin(pool.key, own_ads.ad))
    chosen = draw.choice(others, size=min(candidates - len(own_ads), len(others)), replace=False)
    blocks: Blocks = {name: own.blocks[name][:1] for name in own.blocks if not name.startswith("ad_")}
    for name in ("ad_ids", "ad_numbers"):
        blocks[name] = np.concatenate([own_ads.blocks[name], pool.blocks[name][chosen]])
    keys = np.concatenate([own_ads.ad, pool.key[chosen]])
    bids = draw.lognormal(sigma=0.5, size=len(keys))
    return Request(vertical, int(own.user[0]), blocks, keys, bids, own_ads.labels[task])

"""Ranking requests made of held-out rows: what each user really saw next, among ads that compete for the place."""

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
        bids: float64 [N], the log's own where it has any, else random.
        outcomes: float32 [M], the first task's label of the first M candidates.
    """

    vertical: str
    user: int
    blocks: Blocks
    ads: NDArray[np.int64]
    bids: NDArray[np.float64]
    outcomes: NDArray[np.float32]


def held_out_requests(
    rows: Examples, ads: Catalogue, schema: Schema, vertical: str, *, candidates: int, seed: int
) -> Iterator[Request]:
    """One request per user and vertical, at the user's first held-out row, users in order of arrival.

    Bids are the log's where it has any, which is where not all of `rows` bid 1: the user's own exposures keep theirs,
    and each sampled ad has the bid of a row drawn at random. Else all are log-normal with median 1.

    Args:
        rows: held-out examples in time order; no served model has learned from them.
        ads: what the other candidates are sampled from, without replacement.
        schema: the schema of `rows`, all features.
        vertical: only its rows count; its features are kept.
        candidates: ads per request; fewer if the catalogue is smaller.
        seed: of the sampling and the bids.
    """
    sub = schema.for_vertical(vertical)
    task = schema.vertical(vertical).tasks[0]
    mine = rows.take(np.flatnonzero(~np.isnan(rows.labels[task]))).project(schema, sub)
    bids = rows.bid.astype(np.float64) if (rows.bid != 1).any() else None
    maker = _Maker(vertical, task, ads.project(schema, sub), candidates, np.random.default_rng(seed), bids)
    _, first = np.unique(mine.user, return_index=True)
    by_user = np.argsort(mine.user, kind="stable")
    sorted_users = mine.user[by_user]
    for start in np.sort(first):
        user = mine.user[start]
        own = by_user[np.searchsorted(sorted_users, user) : np.searchsorted(sorted_users, user, side="right")]
        yield maker.request(mine.take(own))


@dataclass(frozen=True)
class _Maker:
    """What one vertical's requests have in common."""

    vertical: str
    task: str
    pool: Catalogue
    candidates: int
    draw: np.random.Generator
    log_bids: NDArray[np.float64] | None

    def request(self, own: Examples) -> Request:
        """A request of the user whose exposures these are."""
        _, once = np.unique(own.ad, return_index=True)
        shown = own.take(np.sort(once)[: self.candidates])
        free = np.flatnonzero(~np.isin(self.pool.key, shown.ad))
        others = self.draw.choice(free, size=min(self.candidates - len(shown), len(free)), replace=False)
        blocks: Blocks = {name: own.blocks[name][:1] for name in own.blocks if not name.startswith("ad_")}
        for name in ("ad_ids", "ad_numbers"):
            blocks[name] = np.concatenate([shown.blocks[name], self.pool.blocks[name][others]])
        keys = np.concatenate([shown.ad, self.pool.key[others]])
        return Request(
            self.vertical, int(own.user[0]), blocks, keys, self._bids(shown, len(keys)), shown.labels[self.task]
        )

    def _bids(self, shown: Examples, count: int) -> NDArray[np.float64]:
        if self.log_bids is None:
            return self.draw.lognormal(sigma=0.5, size=count)
        drawn = self.draw.choice(self.log_bids, size=count - len(shown))
        return np.concatenate([shown.bid.astype(np.float64), drawn])

"""Request messages, serialised before any load runs, drawn from what a published vertical says of itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.workload.making import random_block
from serving.catalog import Vertical
from serving.rpc.pb import ranking_pb2 as pb

Pools = Mapping[int, Sequence[bytes]]
"""By number of candidates: that many different requests of that size."""
UNKNOWN_ADS = 10**15
"""Keys from here on stand for ads that no prior knows."""


def make_pools(vertical: Vertical, sizes: Sequence[int], each: int, seed: int) -> Pools:
    """`each` random requests for every size; ids spread over their whole tables, as strangers' would."""
    draw = np.random.default_rng(seed)
    return {size: [_message(vertical, size, draw, index) for index in range(each)] for size in sizes}


def save_pools(path: Path, pools: Pools) -> None:
    """Write the pools where `load_pools` reads them."""
    arrays: dict[str, NDArray[Any]] = {}
    for size, messages in pools.items():
        arrays[f"bytes_{size}"] = np.frombuffer(b"".join(messages), np.uint8)
        arrays[f"ends_{size}"] = np.cumsum([len(message) for message in messages])
    np.savez(path, **arrays)  # type: ignore[arg-type]  # the stubs take a name for allow_pickle


def load_pools(path: Path) -> dict[int, list[bytes]]:
    """The pools that `save_pools` wrote."""
    pools: dict[int, list[bytes]] = {}
    with np.load(path) as saved:
        for name in saved.files:
            if name.startswith("ends_"):
                size = int(name.removeprefix("ends_"))
                parts = np.split(saved[f"bytes_{size}"], saved[name][:-1])
                pools[size] = [part.tobytes() for part in parts]
    return pools


def _message(vertical: Vertical, count: int, draw: np.random.Generator, index: int) -> bytes:
    blocks = {side: pb.FeatureBlock() for side in ("user", "context", "ad")}
    for block in vertical.blocks:
        setattr(blocks[block.side], block.kind, random_block(block, count if block.side == "ad" else 1, draw).tobytes())
    known = draw.permutation(vertical.prior.ads)[:count]
    ads = np.concatenate([known, UNKNOWN_ADS + np.arange(count - len(known))])
    return pb.RankRequest(
        request_id=f"bench-{index}",
        vertical=vertical.name,
        user=blocks["user"],
        context=blocks["context"],
        ads=blocks["ad"],
        ad_ids=draw.permutation(ads).tolist(),
        bids=draw.lognormal(sigma=0.5, size=count).tolist(),
    ).SerializeToString()

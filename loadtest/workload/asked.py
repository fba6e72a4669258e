"""Requests, serialised before any load runs, and what a sound answer to each must hold."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from serving.rpc.pb import ranking_pb2 as pb


class WorkloadError(ValueError):
    """No requests can be made of what was given."""


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        message: the serialised `RankRequest`.
        request_id: in it.
        ads: int64 [N] candidates, increasing.
        bids: float64 [N] in the order of `ads`.
        places: int64 [N], where each stood in the request.
        tasks: what must be scored.
        tiers: by which an answer may be made, by name; empty: by any that the contract knows.
    """

    message: bytes
    request_id: str
    ads: NDArray[np.int64] = field(repr=False)
    bids: NDArray[np.float64] = field(repr=False)
    places: NDArray[np.int64] = field(repr=False)
    tasks: tuple[str, ...]
    tiers: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ads)


@dataclass(frozen=True)
class Workload:
    """Requests to send, one after the other and round again.

    Attributes:
        vertical: whom they ask.
        origin: what they are made of, for people.
        requests: in the order of sending.
    """

    vertical: str
    origin: str
    requests: tuple[Asked, ...]

    def __len__(self) -> int:
        return len(self.requests)

    def at(self, index: int) -> Asked:
        """The request that is sent as number `index`."""
        return self.requests[index % len(self.requests)]

    def held_to(self, described: pb.DescribeVerticalResponse) -> "Workload":
        """The same requests, whose answers must be of one of the tiers that the server says it has."""
        tiers = tuple(pb.Tier.Name(tier).removeprefix("TIER_").lower() for tier in described.tiers)
        return replace(self, requests=tuple(replace(asked, tiers=tiers) for asked in self.requests))

    @property
    def digest(self) -> str:
        """sha256 in hex over all messages: runs with equal digests sent the same requests in the same order."""
        made = hashlib.sha256()
        for asked in self.requests:
            made.update(hashlib.sha256(asked.message).digest())
        return made.hexdigest()


def asked_of(message: bytes, tasks: Sequence[str] = ()) -> Asked:
    """What a serialised request asks; `WorkloadError` if it is none or names an ad twice."""
    try:
        request = pb.RankRequest.FromString(message)
    except Exception as error:  # protobuf's own DecodeError isn't exported under one name by all its backends
        raise WorkloadError("not a serialised RankRequest") from error
    ads = np.array(request.ad_ids, np.int64)
    places = np.argsort(ads, kind="stable")
    if not len(ads) or (np.diff(ads[places]) == 0).any():
        raise WorkloadError(f"request {request.request_id!r}: needs candidates, each once")
    bids = np.array(request.bids, np.float64) if request.bids else np.ones(len(ads))
    if len(bids) != len(ads):
        raise WorkloadError(f"request {request.request_id!r}: {len(bids)} bids for {len(ads)} candidates")
    return Asked(message, request.request_id, ads[places], bids[places], places, tuple(tasks))

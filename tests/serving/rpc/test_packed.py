"""Every encoding of a message that protobuf allows is read as the one that protobuf itself writes."""

import struct
from collections.abc import Callable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from serving.rpc import packed
from serving.rpc.pb import ranking_pb2 as pb

FIXED64, LENGTH = 1, 2
AD_IDS, BIDS, LATER = 6, 7, 900


def tag(field: int, wire: int) -> bytes:
    return varint(field << 3 | wire)


def varint(number: int) -> bytes:
    head = b""
    while number > 127:
        head += bytes((number & 127 | 128,))
        number >>= 7
    return head + bytes((number,))


def one_by_one(keys: list[int]) -> bytes:
    return b"".join(tag(AD_IDS, FIXED64) + struct.pack("<q", key) for key in keys)


def in_pieces(keys: list[int]) -> bytes:
    middle = len(keys) // 2
    return b"".join(whole(piece) for piece in (keys[:middle], keys[middle:]))


def whole(keys: list[int]) -> bytes:
    return tag(AD_IDS, LENGTH) + varint(8 * len(keys)) + struct.pack(f"<{len(keys)}q", *keys)


def later(keys: list[int]) -> bytes:
    return tag(LATER, LENGTH) + varint(2) + b"hi" + whole(keys)


@given(keys=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20), bids=st.lists(st.floats(allow_nan=False)))
@pytest.mark.parametrize("write", [one_by_one, in_pieces, whole, later])
def test_any_encoding_of_the_keys_is_read(
    write: Callable[[list[int]], bytes], keys: list[int], bids: list[float]
) -> None:
    payload = pb.RankRequest(request_id="r", bids=bids).SerializeToString() + write(keys)
    read = packed.read_request(payload)
    assert list(struct.unpack(f"<{len(keys)}q", b"".join(read.ad_ids))) == keys
    assert list(struct.unpack(f"<{len(bids)}d", b"".join(read.bids))) == bids
    assert read.request_id == "r"


@given(payload=st.binary(max_size=60))
def test_bytes_are_read_or_refused_as_by_the_contract(payload: bytes) -> None:
    try:
        contract = pb.RankRequest.FromString(payload)
    except DecodeError:
        return
    read = packed.read_request(payload)
    assert b"".join(read.ad_ids) == struct.pack(f"<{len(contract.ad_ids)}q", *contract.ad_ids)
    assert (read.vertical, read.priority) == (contract.vertical, contract.priority)


def test_what_is_written_is_the_contracts_own_message() -> None:
    made = packed.RankResponse(ad_ids=(struct.pack("<2q", 5, -6),), tier=4, model={"name": "feed", "version": 2})
    made.scores.add(task="click", probabilities=(struct.pack("<2f", 0.5, 0.25),))
    read = pb.RankResponse.FromString(made.SerializeToString())
    assert (list(read.ad_ids), read.tier, read.model.version) == ([5, -6], pb.TIER_PRIOR, 2)
    assert list(read.scores[0].probabilities) == [0.5, 0.25]

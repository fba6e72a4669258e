"""Addresses as callers give them."""

import pytest

from serving.caller.channel import target_of
from serving.client import BlockingRankingClient


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("127.0.0.1:8500", "127.0.0.1:8500"),
        ("exfm.internal:8500", "exfm.internal:8500"),
        ("dns:///exfm.internal:8500", "dns:///exfm.internal:8500"),
        ("unix:/run/exfm.sock", "unix:/run/exfm.sock"),
        ("ipv4:10.0.0.1:8500,10.0.0.2:8500", "ipv4:10.0.0.1:8500,10.0.0.2:8500"),
        ("10.0.0.1:8500, 10.0.0.2:8501", "ipv4:10.0.0.1:8500,10.0.0.2:8501"),
        ("[::1]:8500,[fe80::2]:8500", "ipv6:[::1]:8500,[fe80::2]:8500"),
    ],
)
def test_one_server_a_name_or_a_list(address: str, target: str) -> None:
    assert target_of(address) == target


@pytest.mark.parametrize("part", ["other:8500", "10.0.0.2", "10.0.0.2:0", "10.0.0.2:65536", "10.0.0.2:x", "", "::1"])
def test_a_list_of_anything_else_is_refused_by_name(part: str) -> None:
    with pytest.raises(ValueError, match=rf"^'{part}' is no numeric HOST:PORT; several servers by name"):
        BlockingRankingClient(f"10.0.0.1:8500,{part}")


def test_both_kinds_of_numbers_in_one_list_are_refused() -> None:
    with pytest.raises(ValueError, match="can't stand in one list"):
        target_of("10.0.0.1:8500,[::1]:8500")

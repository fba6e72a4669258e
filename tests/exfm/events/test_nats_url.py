"""URLs of JetStream logs: every part, and every way to get one wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exfm.events.nats_url import NatsPlace
from exfm.events.urls import UrlError
from exfm.events.valkey import ValkeyPlace


def test_every_part_is_read() -> None:
    place = NatsPlace.parse("//me:secret@a:4222,b:4223/ads-1?replicas=3&window_s=60&timeout_s=0.5")
    assert place == NatsPlace(("nats://me:secret@a:4222", "nats://b:4223"), "ads-1", 3, 60.0, 0.5)
    assert NatsPlace.parse("//[::1]:4222/ads").servers == ("nats://[::1]:4222",)


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("a:1/ads", "must begin with nats://"),
        ("//a/ads", "server 'a' is not host:port"),
        ("//a:1,b:x/ads", "server 'b:x' is not host:port"),
        ("//a:99999/ads", "is not host:port"),
        ("//a:1", "stream '' must be"),
        ("//a:1/a.b", "stream 'a.b' must be"),
        ("//a:1/ads?replicas=2", "replicas is '2', not 1, 3 or 5"),
        ("//a:1/ads?timeout_s=nan", "timeout_s is 'nan'"),
        ("//a:1/ads?window_s=0", "window_s is '0'"),
        ("//a:1/ads?replica=3", "parameter 'replica' is none of"),
        ("//a:1/ads#x", "it has a fragment"),
    ],
)
def test_what_is_wrong_is_named(rest: str, said: str) -> None:
    with pytest.raises(UrlError) as raised:
        NatsPlace.parse(rest)
    assert said in str(raised.value)


@pytest.mark.parametrize("rest", ["//me:secret@a:1/a.b", "//me:sec/secret@a:1/ads", "me:secret@a:1/ads"])
def test_a_password_is_never_shown(rest: str) -> None:
    with pytest.raises(UrlError) as raised:
        NatsPlace.parse(rest)
    assert "sec" not in str(raised.value).removesuffix("seconds")
    with pytest.raises(UrlError) as of_the_store:
        ValkeyPlace.parse(rest.removeprefix("//"))
    assert "sec" not in str(of_the_store.value)


@given(st.text(max_size=60))
def test_any_text_is_a_place_or_refused(text: str) -> None:
    for rest in (text, f"//{text}", f"//a:1/{text}", f"//a:1/s?{text}"):
        try:
            place = NatsPlace.parse(rest)
        except UrlError:
            continue
        assert place.servers
        assert place.replicas in (0, 1, 3, 5)
        assert place.timeout_s >= 0.1

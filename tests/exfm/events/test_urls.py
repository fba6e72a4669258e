"""Backends by URL, and what a refused URL shows of itself."""

import pytest

from exfm.events.urls import UrlError, open_url


def test_the_backend_gets_the_rest() -> None:
    assert open_url("upper://a:b", "any", {"upper": str.upper}) == "//A:B"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("kafka:x", "'kafka:x'"),
        ("kafka://host:1/x", "'kafka://host:1/x'"),
        ("redis:", "'redis:'"),
        ("rediss://app:secret@host/0", "'rediss://...'"),
        ("rediss://app:sec/secret?#,:@x@host/0", "'rediss://...'"),
        ("rediss://host/0?password=secret", "'rediss://...'"),
        ("rediss://host/0?password=x@secret", "'rediss://...'"),
        ("app:secret@host", "'app:...'"),
        ("secret@host", "'...'"),
        ("//app:secret@host", "'...'"),
        ("rediss://app:se\ncret@host", "'rediss://...'"),
    ],
)
def test_a_refused_url_shows_no_secret(url: str, shown: str) -> None:
    with pytest.raises(UrlError) as refused:
        open_url(url, "store", {"lmdb": str, "redis": str})
    assert str(refused.value) == f"store: {shown} is none of lmdb:..., redis:..."

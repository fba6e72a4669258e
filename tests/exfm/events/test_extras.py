"""A client library that is not installed."""

import sys

import pytest

from exfm.events.backends import open_log
from exfm.events.extras import lazily
from exfm.events.urls import UrlError


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in sys.modules if name.startswith("exfm.events.nats_") or name.partition(".")[0] == "nats"
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nats", None)
    with pytest.raises(UrlError, match=r"nats: needs the Python package 'nats'; pip install 'exfm-serving\[scale\]'"):
        open_log("nats://127.0.0.1:1/ads")


def test_a_module_of_ours_that_is_missing_is_a_fault() -> None:
    with pytest.raises(ModuleNotFoundError):
        lazily("x", "exfm.events.not_there", "Any")()

"""The pages over a real socket, and an address that is taken."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from serving.errors import StartError
from serving.ops.server import OpsServer


class Shown:
    """A server with one worker, as ready as it is told to be."""

    def __init__(self, folder: Path) -> None:
        self.metrics_folder = folder
        self.ready = True

    def state(self) -> dict[str, Any]:
        prior = {"version": 0, "age_s": 9.0, "refreshes": 0, "refusals": 0}
        vertical = {"canary": "passed: off by 0 after 1 ms", "trusted": True, "prior": prior}
        said = {"in_flight": 0, "limits": {}, "verticals": {"feed": vertical}, "backends": {}}
        said["hedges"], said["door"] = {"begun": 0, "won": 0}, {"shed_share": 0.0, "wait_s": 0.0}
        said["log"], said["histories"] = None, None
        worker = {"worker": 0, "up": True, "ready": self.ready, "restarts": 0, "state": said}
        return {"ready": self.ready, "versions": {"feed": 1}, "triton": {"restarts": 0}, "workers": [worker]}


def _get(url: str) -> tuple[int, str, str]:
    try:
        with urlopen(url, timeout=5) as response:
            return response.status, response.headers["content-type"], response.read().decode()
    except HTTPError as error:
        return error.code, error.headers["content-type"], error.read().decode()


async def test_each_page_answers(tmp_path: Path) -> None:
    shown = Shown(tmp_path)
    async with OpsServer("127.0.0.1:0", shown) as server:
        pages = {
            path: await asyncio.to_thread(_get, f"http://{server.address}{path}")
            for path in ("/live", "/ready", "/metrics", "/state", "/nothing")
        }
        shown.ready = False
        refused = await asyncio.to_thread(_get, f"http://{server.address}/ready")
    assert pages["/live"][0] == 200
    assert json.loads(pages["/ready"][2])["workers"][0]["canaries"] == {"feed": "passed: off by 0 after 1 ms"}
    assert pages["/metrics"][1].startswith("text/plain")
    assert "exfm_ready 1.0" in pages["/metrics"][2]
    assert json.loads(pages["/state"][2]) == Shown(tmp_path).state()
    assert pages["/nothing"][0] == 404
    assert refused[0] == 503


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:x"])
def test_what_is_no_address_is_said(address: str, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="for the ops plane"):
        OpsServer(address, Shown(tmp_path))


async def test_an_address_that_is_taken_is_said(tmp_path: Path) -> None:
    shown = Shown(tmp_path)
    async with OpsServer("127.0.0.1:0", shown) as server:
        with pytest.raises(StartError, match="Address already in use"):
            OpsServer(server.address, shown)

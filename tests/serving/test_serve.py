"""Who gets a Triton, of what, and how its start ends; that it serves is shown by tests/serving/test_command.py."""

import asyncio
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporter.rollback import Pruned, prune
from serving.embedded.errors import TritonStartError
from serving.embedded.process import TritonOptions
from serving.repository import load_catalog
from serving.serve import ServeOptions, own_triton, triton_for
from serving.worker import WorkerOptions


@pytest.fixture
def repository(published_repository: Path, tmp_path: Path) -> Path:
    shutil.copytree(published_repository / "feed_click", tmp_path / "feed_click", copy_function=shutil.copyfile)
    return tmp_path


class SlowTriton:
    """Its start ends only by `stop`, as often as that takes; one that would be ready comes with `loads`."""

    def __init__(self, loads: bool = False) -> None:
        self.loads = loads
        self.stopped, self.starts, self.deaf = threading.Event(), 0, 0
        self.options: TritonOptions | None = None
        self.running, self.address = False, "127.0.0.1:1"

    def __call__(self, *arguments: Any) -> "SlowTriton":
        self.options = arguments[-1]
        return self

    def start(self) -> None:
        self.starts += 1
        if self.loads:
            self.loads = False  # the next one will hang
            return
        assert self.stopped.wait(10.0)
        raise TritonStartError("stopped")

    def stop(self) -> None:
        if self.deaf:
            self.deaf -= 1  # there was no server yet
        else:
            self.stopped.set()


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> SlowTriton:
    made = SlowTriton()
    monkeypatch.setattr("serving.serve.EmbeddedTriton", made)
    monkeypatch.setattr("serving.serve.ensure", lambda *_: None)
    return made


async def test_versions_pruned_between_choosing_and_serving_are_still_there(
    repository: Path, republish: Callable[[Path, int], None]
) -> None:
    catalog = load_catalog(repository)
    republish(repository / "feed_click", 2)
    assert prune(repository, "feed_click", 1) == Pruned([], [1])
    async with triton_for(catalog, ServeOptions(repository, WorkerOptions(), ("127.0.0.1:1",))):
        assert load_catalog(repository, versions={"feed_click": 1})["feed_click"].version == 1


async def test_a_slow_start_has_the_time_that_it_needs_and_ends_when_asked(
    repository: Path, triton: SlowTriton
) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, stop.set)
    async with asyncio.timeout(5.0):
        async with triton_for(load_catalog(repository), ServeOptions(repository, WorkerOptions()), stop) as backend:
            assert stop.is_set()
            assert backend.supervisor
    assert triton.options is not None
    assert triton.options.start_s is None, "no fixed time"


async def test_a_start_that_fails_is_said(repository: Path, triton: SlowTriton) -> None:
    triton.stopped.set()
    with pytest.raises(TritonStartError, match="stopped"):
        async with own_triton(load_catalog(repository), repository, None, TritonOptions()):
            pass


async def test_a_start_is_cut_short_when_its_caller_is_cancelled(repository: Path, triton: SlowTriton) -> None:
    triton.deaf = 2
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), own_triton(load_catalog(repository), repository, None, TritonOptions()):
            pass
    assert triton.stopped.is_set()


async def test_nobody_waits_for_a_restart_that_hangs(repository: Path, triton: SlowTriton, eventually: Any) -> None:
    triton.loads = True
    async with asyncio.timeout(5.0), own_triton(load_catalog(repository), repository, None, TritonOptions()):
        await eventually(lambda: triton.starts == 2)
    assert triton.stopped.is_set()

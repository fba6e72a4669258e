import asyncio
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import serving.refresh
from exfm.features.prior_file import NAME, PriorFile, pack, read_prior, write_prior
from serving.catalog import Catalog, Vertical
from serving.ladder.live import Edition, LivePrior
from serving.refresh import PriorRefresh

ADS = np.array([100, 5], np.int64)


@pytest.fixture
def vertical(catalog: Catalog) -> Vertical:
    return replace(catalog["feed_click"], learned_until_ms=1000)


@pytest.fixture
def live(vertical: Vertical) -> LivePrior:
    return LivePrior(Edition(vertical.prior))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "feed_click").mkdir()
    return tmp_path / "feed_click" / NAME


@pytest.fixture
def watch(tmp_path: Path, vertical: Vertical, live: LivePrior, file: Path) -> PriorRefresh:  # noqa: ARG001 its folder
    return PriorRefresh(tmp_path, {vertical.name: vertical}, {vertical.name: live})


@pytest.fixture
def fresh(vertical: Vertical) -> Callable[..., PriorFile]:
    """`fresh(rate=0.5, **other)`: a sound refresh that gives ad 100 that rate."""

    def make(rate: float = 0.5, **other: object) -> PriorFile:
        tasks = len(vertical.tasks)
        made = PriorFile(
            vertical.name,
            vertical.tasks,
            np.array([100], np.int64),
            np.full((1, tasks), rate, np.float32),
            np.full(tasks, 0.0625, np.float32),
            version=1,
            learned_until_ms=2000,
            written_ms=5000,
        )
        return replace(made, **other)  # type: ignore[arg-type]

    return make


async def test_a_new_file_is_taken_up_once(
    watch: PriorRefresh, live: LivePrior, file: Path, fresh: Callable[..., PriorFile]
) -> None:
    await watch.round()
    assert (live.refreshes, live.lookup(ADS)[0, 0]) == (0, 0.25)
    write_prior(file, fresh(0.5))
    for _ in range(3):
        await watch.round()
    assert (live.refreshes, live.lookup(ADS)[:, 0].tolist()) == (1, [0.5, 0.0625])
    assert (live.edition.version, live.edition.written_s) == (1, 5.0)
    write_prior(file, fresh(0.75, version=2))
    await watch.round()
    assert (live.refreshes, live.edition.version, live.lookup(ADS)[0, 0]) == (2, 2, 0.75)
    await asyncio.to_thread(file.unlink)
    await watch.round()
    assert (live.refreshes, live.refusals, live.lookup(ADS)[0, 0]) == (2, 0, 0.75)


BAD: dict[str, tuple[dict[str, object], str]] = {
    "vertical": ({"vertical": "other"}, "is for 'other'"),
    "tasks": ({"tasks": ("like", "click")}, "tasks"),
    "shape": ({"probability": np.ones((2, 2), np.float32)}, r"\(2, 2\), not \(1, 2\)"),
    "width": ({"probability": np.ones((1, 1), np.float32), "default": np.ones(1, np.float32)}, r"1 outcomes, not 2"),
    "not finite": ({"default": np.array([0.5, np.nan], np.float32)}, r"\[0, 1\]"),
    "no probability": ({"probability": np.full((1, 2), 2, np.float32)}, r"\[0, 1\]"),
    "order": ({"ad": np.array([2, 1]), "probability": np.ones((2, 2), np.float32)}, "increase strictly"),
    "older": ({"learned_until_ms": 999}, "learned until 999 ms"),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_the_vertical_cannot_use_is_refused_once_and_the_old_one_stays(
    watch: PriorRefresh,
    live: LivePrior,
    file: Path,
    fresh: Callable[..., PriorFile],
    caplog: pytest.LogCaptureFixture,
    *,
    case: str,
) -> None:
    change, says = BAD[case]
    write_prior(file, fresh(**change))
    await watch.round()
    await watch.round()
    assert (live.refreshes, live.refusals, live.lookup(ADS)[0, 0]) == (0, 1, 0.25)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "feed_click: a refreshed prior is refused" in record.getMessage()
    assert re.search(says, record.getMessage())
    write_prior(file, fresh(0.5))
    await watch.round()
    assert (live.refreshes, live.lookup(ADS)[0, 0]) == (1, 0.5)


async def test_a_torn_file_is_refused_and_taken_up_once_it_is_whole(
    watch: PriorRefresh, live: LivePrior, file: Path, fresh: Callable[..., PriorFile]
) -> None:
    data = pack(fresh(0.5))
    await asyncio.to_thread(file.write_bytes, data[: len(data) // 2])
    await watch.round()
    assert (live.refreshes, live.refusals) == (0, 1)
    await asyncio.to_thread(file.write_bytes, data)
    await watch.round()
    assert (live.refreshes, live.refusals, live.lookup(ADS)[0, 0]) == (1, 1, 0.5)


async def test_files_are_not_read_on_the_event_loops_thread(
    watch: PriorRefresh,
    live: LivePrior,
    file: Path,
    fresh: Callable[..., PriorFile],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[int] = []

    def noted(path: Path) -> PriorFile:
        threads.append(threading.get_ident())
        return read_prior(path)

    monkeypatch.setattr(serving.refresh, "read_prior", noted)
    write_prior(file, fresh())
    await watch.round()
    assert live.refreshes == 1
    assert threading.get_ident() not in threads


async def test_a_reader_that_fails_is_no_end_of_the_watch(
    watch: PriorRefresh,
    live: LivePrior,
    file: Path,
    fresh: Callable[..., PriorFile],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: Path) -> PriorFile:
        raise MemoryError

    write_prior(file, fresh())
    with monkeypatch.context() as patch:
        patch.setattr(serving.refresh, "read_prior", broken)
        await watch.round()
    assert (live.refreshes, live.refusals) == (0, 1)
    write_prior(file, fresh(0.5, version=2))
    await watch.round()
    assert live.edition.version == 2

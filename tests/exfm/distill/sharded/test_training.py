"""A run of the sharded teacher that is cut off, by one rank, which is this process."""

import importlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from exfm.data.source import Source
from exfm.distill.config import TrainConfig, load_config
from exfm.distill.trainer import TrainingError
from exfm.models.checkpoint import load_checkpoint
from exfm.models.sharded import checkpoint
from exfm.models.sharded.extra import ShardingError
from exfm.models.sharded.ranks import Ranks, ranks_of_this_machine

SETTINGS = "[stream]\nchunk = 40\nbatch = 20\n[teacher.model]\nlayers = 1\nhidden = 8\ndropout = 0.0\n"


class CutOffError(Exception):
    """As good as a kill: nothing is saved on the way out."""


def _cut_off(_: Path) -> NoReturn:
    raise CutOffError


@pytest.fixture
def ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ranks]:
    if find_spec("torchrec") is None:
        pytest.skip("torchrec is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what torchrec imports
        importlib.import_module("exfm.distill.sharded.training")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    with ranks_of_this_machine(0, 1, tmp_path / "meeting", 30.0) as made:
        yield made


@pytest.fixture
def config(tmp_path: Path, tiny: Callable[..., Source]) -> TrainConfig:
    path = tmp_path / "mine.toml"
    path.write_text(SETTINGS, encoding="utf-8")
    return load_config(tiny(10).name, path)


def test_a_run_that_is_cut_off_goes_on_and_ends_as_if_it_had_not_been(
    ranks: Ranks,
    config: TrainConfig,
    tiny: Callable[..., Source],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from exfm.distill.sharded import training
    from exfm.distill.sharded.training import PLACE, TeacherRun

    source, whole, cut = tiny(200), tmp_path / "whole", tmp_path / "cut"
    TeacherRun(source, config, ranks).walk(whole, lambda _: None, 0.0)
    assert not checkpoint.exists(whole / PLACE)
    seen = []

    def progress(rows: int) -> None:
        seen.append(rows)
        if len(seen) == 4:
            raise CutOffError

    with pytest.raises(CutOffError):
        TeacherRun(source, config, ranks).walk(cut, progress, 0.0)
    assert not (cut / "teacher.sharded").exists()
    with pytest.raises(ShardingError, match="is of a run over another log"):
        TeacherRun(tiny(100), config, ranks).go_on(cut / PLACE)
    other = replace(config, stream=replace(config.stream, chunk=50))
    with pytest.raises(TrainingError, match=r"other settings: stream\.chunk was 40, is 50"):
        TeacherRun(source, other, ranks).go_on(cut / PLACE)
    killed = TeacherRun(source, config, ranks)
    killed.go_on(cut / PLACE)
    seen.clear()
    with monkeypatch.context() as patch:
        patch.setattr(training, "teacher_of", _cut_off)
        with pytest.raises(CutOffError):  # as by a lack of memory
            killed.walk(cut, seen.append, 0.0)
    assert seen == [40, 40]  # three chunks were learned and saved, the fourth was lost
    again = TeacherRun(source, config, ranks)
    again.go_on(cut / PLACE)
    report = again.walk(cut, seen.append)
    assert seen == [40, 40]  # nothing was left to be learned
    assert report.rows == 200
    assert not checkpoint.exists(cut / PLACE)
    states = [load_checkpoint(out / "teacher.pt").state for out in (whole, cut)]
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, atol=1e-6, rtol=1e-5)
    monkeypatch.setattr(training, "available_bytes", lambda: 1000)
    assert training.gathered(cut) == ""
    assert not (cut / "teacher.pt").exists()

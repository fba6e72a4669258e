"""A small configuration that trains within a second."""

from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess

import pytest

from exfm.distill.config import LiteOptions, StreamOptions, StudentOptions, TeacherOptions, TrainConfig
from exfm.distill.counters import CounterOptions

Apart = Callable[..., BaseProcess]


@pytest.fixture
def config() -> TrainConfig:
    return TrainConfig(
        stream=StreamOptions(chunk=100, batch=50),
        teacher=TeacherOptions(model={"layers": 1, "hidden": 16, "fmb": 2, "lcb": 2, "rank": 3, "counter_hidden": 8}),
        student=StudentOptions(dimension=8, model={"compressed": 2, "user_hidden": 8, "hidden": 16, "width": 8}),
        lite=LiteOptions(model={"user_hidden": 8, "product": 4, "width": 4}, dimension=4),
        counters=CounterOptions(keys=("user", "ad", "user*topic")),
    )


@pytest.fixture(scope="session")
def apart() -> Apart:
    """`apart(work, *given)`: a process that will do it, no fork of this one, which has threads of many libraries."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["exfm.commands.train"])
    return lambda work, *given: context.Process(target=work, args=given)

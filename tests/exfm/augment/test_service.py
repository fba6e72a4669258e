"""The service's loop: what fails in passing stops nobody else."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from exfm.augment.join.joiner import Joiner, Step
from exfm.augment.service import JoinPart, ServiceOptions, serve
from exfm.data.errors import DataError
from exfm.events import impression, outcome
from exfm.events.log import LogUnavailableError
from exfm.events.memory import MemoryLog

OPTIONS = ServiceOptions(pause_s=0.001, retry_s=0.001, tidy_s=0.0, drain=True)


class Scripted:
    """A part that moves so many events; a step fails while `fails` says so."""

    def __init__(self, work: int = 0, fails: Callable[[], bool] = lambda: False, untidy: bool = False) -> None:
        self.left, self.fails, self.untidy = work, fails, untidy
        self.failed, self.tidied, self.waiting = 0, 0, False

    def step(self) -> int:
        if self.fails():
            self.failed += 1
            raise LogUnavailableError("database or disk is full")
        moved, self.left = min(1, self.left), max(0, self.left - 1)
        return moved

    def tidy(self, keep_ms: int) -> None:  # noqa: ARG002  # the protocol's
        self.tidied += 1
        if self.untidy:
            raise LogUnavailableError("gone")


def test_retention_frees_space_while_a_step_fails_for_lack_of_it() -> None:
    full = Scripted(work=3)
    full.fails = lambda: full.tidied < 2
    serve([full], threading.Event(), OPTIONS)
    assert (full.left, full.failed > 0) == (0, True)


def test_an_outage_of_one_part_does_not_stop_the_others() -> None:
    other = Scripted(work=50)
    first = Scripted(work=1, fails=lambda: other.left > 0, untidy=True)
    serve([first, other], threading.Event(), OPTIONS)
    assert (first.left, other.left) == (0, 0)
    assert other.tidied == first.tidied > 0


def test_a_part_that_fails_rests_while_others_work() -> None:
    other = Scripted(work=20)
    stop = threading.Event()
    first = Scripted(fails=lambda: True)

    def fails() -> bool:
        if not other.left:
            stop.set()
        return False

    done = Scripted(fails=fails)
    serve([first, other, done], stop, ServiceOptions(pause_s=0.001, retry_s=100.0))
    assert (first.failed, other.left) == (1, 0)


def test_a_part_at_rest_is_not_drained() -> None:
    part = Scripted(work=2)
    part.fails = lambda: part.failed < 4
    serve([part], threading.Event(), OPTIONS)
    assert (part.failed, part.left) == (4, 0)


def test_the_joins_output_is_trimmed_while_the_log_is_away() -> None:
    trimmed: list[int] = []

    class Away(MemoryLog):
        def trim(self, topic: str, before_ms: int) -> int:  # noqa: ARG002  # the protocol's
            raise LogUnavailableError("gone")

    class Trimming(Joiner):
        def __init__(self) -> None:
            pass

        def step(self) -> Step:
            return Step(0, 0) if trimmed else Step(1, 0)

        def trim(self, before_ms: int) -> int:
            trimmed.append(before_ms)
            return 0

    serve([JoinPart(Trimming(), Away())], threading.Event(), OPTIONS)
    assert trimmed


def test_a_join_that_waits_for_the_annotation_is_not_drained() -> None:
    class Paused(Joiner):
        def __init__(self) -> None:
            self.steps = 0

        def step(self) -> Step:
            self.steps += 1
            return Step(0, 0, paused=self.steps < 5)

        def trim(self, before_ms: int) -> int:  # noqa: ARG002  # the protocol's
            return 0

    paused = Paused()
    serve([JoinPart(paused, MemoryLog())], threading.Event(), OPTIONS)
    assert paused.steps == 5


def test_a_topic_that_cannot_be_trimmed_leaves_the_others_no_fuller() -> None:
    trimmed: list[str] = []

    class Half(MemoryLog):
        def trim(self, topic: str, before_ms: int) -> int:  # noqa: ARG002  # the protocol's
            trimmed.append(topic)
            raise LogUnavailableError(f"{topic} is stuck")

    class Idle(Joiner):
        def __init__(self) -> None:
            pass

        def trim(self, before_ms: int) -> int:  # noqa: ARG002  # the protocol's
            trimmed.append("joined")
            return 0

    with pytest.raises(LogUnavailableError, match="is stuck"):
        JoinPart(Idle(), Half()).tidy(0)
    assert sorted(trimmed) == sorted([impression.TOPIC, outcome.TOPIC, "joined"])


def test_a_damaged_stream_does_not_stop_the_join() -> None:
    join, stop = Scripted(work=20), threading.Event()

    class Damaged(Scripted):
        def step(self) -> int:
            if not join.left:
                stop.set()
            raise DataError("not a commit", Path("stream"))

        def tidy(self, keep_ms: int) -> None:  # noqa: ARG002  # the protocol's
            raise DataError("no row number", Path("stream"))

    serve([Damaged(), join], stop, OPTIONS)
    assert join.left == 0

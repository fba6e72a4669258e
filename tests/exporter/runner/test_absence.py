import os
import threading
from collections.abc import Callable

import pytest

from exporter.runner.absence import ABSENT, come_back
from serving.embedded.yielding import may_yield
from tests.forked import in_child


def in_idle_child(work: Callable[[], bool], *, absent: bool, unprivileged: bool = False) -> None:
    """Assert on what `work` says in a process of its own in the idle class."""

    def idle() -> bool:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        os.environ[ABSENT] = "1" if absent else ""
        return work()

    in_child(idle, unprivileged=unprivileged)


@pytest.mark.skipif(not may_yield(), reason="takes the privilege to leave the idle class")
def test_all_threads_come_back() -> None:
    def work() -> bool:
        ended, policies = threading.Event(), set[int]()
        thread = threading.Thread(target=ended.wait)
        thread.start()
        come_back()
        for number in (threading.get_native_id(), thread.native_id or 0):
            policies.add(os.sched_getscheduler(number))
        ended.set()
        return policies == {os.SCHED_OTHER} and ABSENT not in os.environ

    in_idle_child(work, absent=True)


def test_who_was_put_there_by_somebody_else_stays() -> None:
    def work() -> bool:
        come_back()
        return os.sched_getscheduler(0) == os.SCHED_IDLE

    in_idle_child(work, absent=False)


def test_a_version_that_cannot_come_back_must_not_serve() -> None:
    def work() -> bool:
        try:
            come_back()
        except PermissionError:
            return True
        return False

    in_idle_child(work, absent=True, unprivileged=True)

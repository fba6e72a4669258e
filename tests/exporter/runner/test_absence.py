import os
import threading
from collections.abc import Callable

import pytest

from exporter.runner.absence import Absence, warm_ups
from serving.embedded.yielding import may_yield

NOBODY = 65534
TWO = {"model_warmup": [{"name": "200 candidates"}, {"name": "1000 candidates", "count": 0}]}

can_come_back = pytest.mark.skipif(not may_yield(), reason="takes the privilege to leave the idle class")


def in_idle_child(work: Callable[[], bool], *, user: int = 0) -> None:
    """Assert on what `work` says in a process of its own, in the idle class and, as root, as that user."""
    child = os.fork()
    if not child:
        code = 1
        try:
            if user and os.getuid() == 0:
                os.setgroups([])
                os.setuid(user)
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            code = 0 if work() else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def policies() -> set[int]:
    """Of all threads of this process."""
    return {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}


def test_who_takes_its_turns_is_not_absent() -> None:
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    assert Absence.begun(TWO) is None


@pytest.mark.parametrize(
    ("config", "number"),
    [({}, 0), (TWO, 2), ({"model_warmup": [{"count": 10}, {"count": "3"}, {}]}, 14)],
    ids=["none", "once each", "counts"],
)
def test_warm_ups_are_counted(config: dict[str, object], number: int) -> None:
    assert warm_ups(config) == number


@can_come_back
def test_all_threads_come_back_after_the_last_warm_up() -> None:
    def work() -> bool:
        ended = threading.Event()
        threading.Thread(target=ended.wait).start()
        absence = Absence.begun(TWO)
        idle = [policies()]
        absence = absence and absence.after(1)
        idle.append(policies())
        over = absence is not None and absence.after(1) is None
        back = policies()
        ended.set()
        return idle == [{os.SCHED_IDLE, os.SCHED_OTHER}] * 2 and over and back == {os.SCHED_OTHER}

    in_idle_child(work)


@can_come_back
def test_without_warm_ups_it_is_over_at_once() -> None:
    in_idle_child(lambda: Absence.begun({}) is None and policies() == {os.SCHED_OTHER})


def test_a_version_that_cannot_come_back_must_not_serve() -> None:
    def work() -> bool:
        try:
            Absence.begun(TWO)
        except PermissionError:
            return True
        return False

    in_idle_child(work, user=NOBODY)

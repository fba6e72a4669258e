"""Real processes that give way: stopped while a stranger runs, on their way again when it, or their keeper, is gone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from exfm.augment.annotate.workers import giving_way
from exfm.augment.annotate.workers.giving_way import GivingWay

BUSY = "while True: pass"
IDLE = f"from exfm.augment.annotate.workers.priority import yield_to_others; yield_to_others(own_session=True)\n{BUSY}"
WITHIN_S = 20.0


@contextmanager
def spinning(script: str = BUSY) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def until(true: Callable[[], bool]) -> None:
    end_s = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def cpu_s(pid: int) -> float:
    return sum(psutil.Process(pid).cpu_times()[:2])


def share_of(worker: int, seconds: float) -> float:
    before, since_s = cpu_s(worker), time.monotonic()
    until(lambda: time.monotonic() - since_s >= seconds)
    return (cpu_s(worker) - before) / (time.monotonic() - since_s)


@pytest.fixture
def way() -> Iterator[GivingWay]:
    made = GivingWay(0.005)
    yield made
    made.close()


def test_a_stranger_stops_them_but_for_a_turn_now_and_then(way: GivingWay) -> None:
    with spinning(IDLE) as worker:  # as the annotator starts them: none outruns who watches it
        until(lambda: os.sched_getscheduler(worker.pid) == os.SCHED_IDLE)
        way.watch([worker.pid])
        with spinning():
            until(lambda: stopped(worker.pid))
            assert share_of(worker.pid, 1.0) < 0.25


def test_whoever_ends_the_watching_they_go_on_and_are_watched_again(way: GivingWay) -> None:
    with spinning() as worker, spinning():
        way.watch([worker.pid])
        until(lambda: stopped(worker.pid))
        first = way.pid
        os.kill(first, signal.SIGKILL)
        until(lambda: not stopped(worker.pid))
        until(lambda: way.pid != first)
        until(lambda: stopped(worker.pid))


def test_at_its_end_they_go_on() -> None:
    made = GivingWay(0.005)
    with spinning() as worker, spinning():
        made.watch([worker.pid])
        until(lambda: stopped(worker.pid))
        made.close()
        until(lambda: not stopped(worker.pid))
        assert share_of(worker.pid, 0.3) > 0.0


def test_the_death_of_who_asked_lets_them_go_on() -> None:
    script = (
        "import sys, time; from exfm.augment.annotate.workers.giving_way import GivingWay; "
        "way = GivingWay(0.005); way.watch([int(sys.argv[1])]); time.sleep(600)"
    )
    with spinning() as worker, spinning():
        asker = subprocess.Popen([sys.executable, "-c", script, str(worker.pid)])
        until(lambda: stopped(worker.pid))
        asker.kill()
        asker.wait()
        until(lambda: not stopped(worker.pid))
        assert share_of(worker.pid, 0.3) > 0.1


def test_a_watching_process_that_is_stopped_holds_up_no_end() -> None:
    made = GivingWay(0.005)
    os.kill(made.pid, signal.SIGSTOP)
    giving_way._END_S, usual_s = 0.2, giving_way._END_S
    try:
        made.close()
    finally:
        giving_way._END_S = usual_s
    until(lambda: not psutil.pid_exists(made.pid))

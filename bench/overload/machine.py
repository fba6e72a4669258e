"""What the whole machine has spent, by the clock that its processes are charged by."""

import contextlib

import psutil


def spent_s() -> float:
    """CPU seconds of all processes that can be seen from here, ended ones included, and what the machine's host took.

    The kernel charges a process what it ran, while the machine's own totals are samples, taken at ticks, which may be
    some per cent too low. Where what the server and the generator spent is to be taken off, as it is known exactly,
    that error would be all of the rest, or more. A process that has ended counts with the one that has waited for it;
    what nobody waited for is lost, as is what happens outside a container that this runs in.
    """
    total_s = float(getattr(psutil.cpu_times(), "steal", 0.0))
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total_s += times.user + times.system + times.children_user + times.children_system
    return total_s

"""The control group whose processes run only where nobody else wants to, whichever session they are of.

The idle scheduling class counts among the processes of one group alone. Where the kernel shares the processor out among
sessions or groups first, an idle process runs on until the end of its group's slice, three milliseconds or more, while
a request waits for the core. A group that is itself idle (`cpu.idle`, Linux 5.15) gives way at once.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

NAME = "exfm-idle"


def join_idle_group(process: Path = Path("/proc/self")) -> Path | None:
    """Move this process, with all its threads and later children, into an idle group beside its present one.

    The group stays behind, empty, for the next one. None where that can't be done: without the right to make groups,
    or without groups for the processor; then nothing has changed.
    """
    for own in _own_groups(process):
        group = own if own.name == NAME else own / NAME
        try:
            group.mkdir(exist_ok=True)
            (group / "cpu.idle").write_text("1", encoding="ascii")
            (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        except OSError:
            with suppress(OSError):
                group.rmdir()
            continue
        return group
    return None


def _own_groups(process: Path) -> Iterator[Path]:
    """Where this process stands in each hierarchy that may control the processor."""
    try:
        groups = [line.split(":", 2) for line in (process / "cgroup").read_text(encoding="utf-8").splitlines()]
        mounts = (process / "mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in mounts:
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        root, at = before.split()[3:5]
        for _, controllers, path in groups:
            ours = (
                kind == "cgroup2" if not controllers else kind == "cgroup" and "cpu" in options.split()[-1].split(",")
            )
            if ours and (not controllers or "cpu" in controllers.split(",")):
                with suppress(ValueError):
                    yield Path(at) / Path(path).relative_to(root)

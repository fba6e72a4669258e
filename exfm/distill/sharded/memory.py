"""How much more memory this process may take: what its host has, and what the control groups around it allow."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("memory.max", "memory.current", "inactive_file")


def available_bytes(root: Path = Path("/")) -> int:
    """Without swapping and without being killed for it, page cache included that can go; at least 0.

    Args:
        root: where `proc` and `sys/fs/cgroup` are.
    """
    lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
    host = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return max(0, min([host, *_rooms(root)]))


def _rooms(root: Path) -> Iterator[int]:
    """What is left of each limit: of this process's group, and of all groups that this is in."""
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, names = (root / "sys/fs/cgroup" / "memory", _V1) if controllers else (root / "sys/fs/cgroup", _V2)
        own = Path(path.lstrip("/"))
        for group in (own, *own.parents):  # in a container only the last one may be there: then it is the container's
            with suppress(OSError, ValueError):  # it is not there, or knows no limit
                yield _room(top / group, *names)


def _room(group: Path, limit: str, usage: str, cache: str) -> int:
    most, used = (int((group / name).read_text(encoding="ascii")) for name in (limit, usage))
    stats = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    return most - used + int(stats.get(cache, 0))

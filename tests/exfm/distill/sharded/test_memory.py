"""Memory that is left: the host's, and what the groups around a process allow, as the kernel writes it."""

from pathlib import Path

import pytest

from exfm.distill.sharded.memory import available_bytes

GB = 1 << 30
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("memory.max", "memory.current", "inactive_file")


def host(root: Path, groups: str, gb: int = 100) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 999999999 kB\nMemAvailable: {gb << 20} kB\nSwapTotal: 0 kB\n")
    (root / "proc/self/cgroup").write_text(groups)


def group(root: Path, place: str, numbers: tuple[object, int, int], names: tuple[str, str, str] = V2) -> None:
    most, used, cache = numbers
    folder = root / "sys/fs/cgroup" / place
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (most, used), strict=False):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"anon 7\n{names[2]} {cache}\nactive_file 5\n")


def test_without_a_limit_it_is_the_hosts(tmp_path: Path) -> None:
    host(tmp_path, "0::/job\n")
    assert available_bytes(tmp_path) == 100 * GB
    group(tmp_path, "job", ("max", 3 * GB, 0))
    assert available_bytes(tmp_path) == 100 * GB
    (tmp_path / "proc/self/cgroup").unlink()
    assert available_bytes(tmp_path) == 100 * GB


def test_the_tightest_group_around_it_counts_less_what_it_uses(tmp_path: Path) -> None:
    host(tmp_path, "0::/pod/job\n")
    group(tmp_path, "pod/job", (20 * GB, 3 * GB, 1 * GB))  # of which cache can go
    assert available_bytes(tmp_path) == 18 * GB
    group(tmp_path, "pod", (30 * GB, 25 * GB, 0))
    assert available_bytes(tmp_path) == 5 * GB
    group(tmp_path, "pod", (30 * GB, 31 * GB, 0))
    assert available_bytes(tmp_path) == 0


@pytest.mark.parametrize("place", ["memory/docker/one", "memory"])
def test_the_first_version_is_known_too_also_from_within_a_container(tmp_path: Path, place: str) -> None:
    host(tmp_path, "5:cpu,cpuacct:/x\n4:memory:/docker/one\n0::/\n")
    group(tmp_path, "memory", (9223372036854771712, 50 * GB, 0), V1)
    group(tmp_path, place, (8 * GB, 2 * GB, GB), V1)
    assert available_bytes(tmp_path) == 7 * GB


def test_of_this_machine_there_is_some() -> None:
    assert 0 < available_bytes() < 1 << 50

"""Which group a process goes into, read from made-up files, and a real one where this machine allows it."""

import subprocess
import sys
from pathlib import Path

import pytest

from exfm.augment.annotate.workers.idle_group import NAME, join_idle_group

V1 = "32 31 0:29 / {at} rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
V2 = "30 23 0:26 / {at} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
OTHER = "36 31 0:33 / /elsewhere rw,relatime - cgroup cgroup rw,devices\n25 1 0:5 / /proc rw - proc proc rw\n"


def _process(folder: Path, groups: str, mount: str) -> Path:
    process, root = folder / "proc", folder / "cgroup"
    process.mkdir()
    (root / "service").mkdir(parents=True)
    (process / "cgroup").write_text(groups)
    (process / "mountinfo").write_text(OTHER + mount.format(at=root))
    return process


@pytest.mark.parametrize(
    ("groups", "mount"),
    [("5:devices:/x\n1:cpu,cpuacct:/service\n0::/\n", V1), ("0::/service\n", V2)],
    ids=["version 1", "version 2"],
)
def test_the_group_lies_below_the_processs_own(tmp_path: Path, groups: str, mount: str) -> None:
    made = join_idle_group(_process(tmp_path, groups, mount))
    assert made == tmp_path / "cgroup" / "service" / NAME
    assert (made / "cpu.idle").read_text() == "1"
    assert (made / "cgroup.procs").read_text()


def test_who_is_in_one_stays_there(tmp_path: Path) -> None:
    process = _process(tmp_path, f"1:cpu:/service/{NAME}\n", V1)
    assert join_idle_group(process) == tmp_path / "cgroup" / "service" / NAME


@pytest.mark.parametrize("groups", ["", "5:devices:/x\n", "1:cpu:/gone\n"])
def test_without_a_group_for_the_processor_nothing_changes(tmp_path: Path, groups: str) -> None:
    assert join_idle_group(_process(tmp_path, groups, V1)) is None
    assert not list(tmp_path.rglob(NAME))


def test_the_kernel_takes_it_where_it_may() -> None:
    script = (
        "import sys; from pathlib import Path; from exfm.augment.annotate.workers.idle_group import join_idle_group; "
        "made = join_idle_group(); own = Path('/proc/self/cgroup').read_text(); "
        f"sys.exit(0 if (made is None) == ('{NAME}' not in own) else 1)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0

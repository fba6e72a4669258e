"""Starting, stopping and killing a real Triton."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from exfm.features.schema import Schema
from serving.embedded.errors import EnvironmentUnusableError, TritonStartError
from serving.embedded.process import EmbeddedTriton, TritonOptions

if TYPE_CHECKING:
    from serving.embedded.environment import TritonEnvironment

MODEL = "feed_long_view"


def wait_until(condition: Callable[[], bool], bound_s: float = 10.0) -> None:
    until_s = time.monotonic() + bound_s
    while not condition():
        assert time.monotonic() < until_s, "not so within the bound"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def family(pid: int) -> list[int]:
    """The server and its stubs."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def shared_memory() -> set[str]:
    return {entry.name for entry in Path("/dev/shm").glob("exfm_*")}


@pytest.fixture
def triton(triton_environment: "TritonEnvironment", published_repository: Path, tmp_path: Path) -> EmbeddedTriton:
    return EmbeddedTriton(triton_environment, published_repository, (MODEL,), tmp_path / "triton.log")


def test_it_listens_on_loopback_only(embedded_triton: EmbeddedTriton) -> None:
    listening = [
        f"{at.laddr.ip}:{at.laddr.port}"
        for at in psutil.Process(embedded_triton.pid).net_connections("inet")
        if at.status == psutil.CONN_LISTEN
    ]
    assert listening == [embedded_triton.address]
    assert embedded_triton.version.startswith("2.")


def test_it_starts_again_at_the_same_address_and_leaves_nothing(triton: EmbeddedTriton) -> None:
    before = shared_memory()
    with triton:
        address, first = triton.address, family(triton.pid)
        assert len(first) == 2
        assert len(shared_memory()) > len(before)
    assert not triton.running
    assert all(gone(pid) for pid in first)
    with triton:
        assert triton.address == address
        assert triton.pid not in first
    assert shared_memory() == before


def test_a_killed_server_leaves_no_stub(triton: EmbeddedTriton) -> None:
    before = shared_memory()
    triton.start()
    pids = family(triton.pid)
    os.kill(triton.pid, signal.SIGKILL)
    wait_until(lambda: not triton.running)
    assert all(gone(pid) for pid in pids)
    assert shared_memory() == before
    triton.stop()


def test_a_stopped_server_is_killed_when_its_time_is_up(
    triton_environment: "TritonEnvironment", published_repository: Path, tmp_path: Path
) -> None:
    options = TritonOptions(stop_s=0.2)
    triton = EmbeddedTriton(triton_environment, published_repository, (MODEL,), tmp_path / "log", options)
    triton.start()
    pids = family(triton.pid)
    os.kill(triton.pid, signal.SIGSTOP)
    triton.stop()
    assert all(gone(pid) for pid in pids)


def test_nothing_is_left_when_its_owner_is_killed(
    triton_environment: "TritonEnvironment", published_repository: Path, tmp_path: Path
) -> None:
    owner = (
        "import sys, time; from pathlib import Path\n"
        "from serving.embedded.environment import TritonEnvironment\n"
        "from serving.embedded.process import EmbeddedTriton\n"
        "environment, repository, log = map(Path, sys.argv[1:])\n"
        f"triton = EmbeddedTriton(TritonEnvironment(environment), repository, ('{MODEL}',), log)\n"
        "triton.start(); print(triton.pid, flush=True); time.sleep(600)\n"
    )
    arguments = (str(triton_environment.path), str(published_repository), str(tmp_path / "log"))
    with subprocess.Popen([sys.executable, "-c", owner, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = family(int(process.stdout.readline()))
        process.kill()
    wait_until(lambda: all(gone(pid) for pid in pids))


def test_a_failing_model_ends_the_start_at_once(
    triton_environment: "TritonEnvironment", published_repository: Path, tmp_path: Path, tiny_schema: Schema
) -> None:
    repository = shutil.copytree(published_repository, tmp_path / "repository")
    config = repository / MODEL / "config.pbtxt"
    config.write_text(config.read_text().replace(tiny_schema.for_vertical(MODEL).digest, "0" * 64))
    triton = EmbeddedTriton(triton_environment, repository, (MODEL,), tmp_path / "log")
    with pytest.raises(TritonStartError, match="config.pbtxt says schema_hash"):
        triton.start()
    assert not triton.running


def test_a_slow_start_is_given_up(
    triton_environment: "TritonEnvironment", published_repository: Path, tmp_path: Path
) -> None:
    options = TritonOptions(start_s=0.0, stop_s=0.2)
    triton = EmbeddedTriton(triton_environment, published_repository, (MODEL,), tmp_path / "log", options)
    with pytest.raises(TritonStartError, match=r"not ready within 0\.0 s"):
        triton.start()
    assert gone(triton.pid)


def test_a_missing_environment_is_said_before_anything_starts(published_repository: Path, tmp_path: Path) -> None:
    from serving.embedded.environment import TritonEnvironment

    triton = EmbeddedTriton(TritonEnvironment(tmp_path / "none"), published_repository, (MODEL,), tmp_path / "log")
    with pytest.raises(EnvironmentUnusableError, match="python -m serving.embedded.environment --path"):
        triton.start()
    assert not (tmp_path / "log").exists()


def test_stop_without_start_does_nothing(triton: EmbeddedTriton) -> None:
    triton.stop()
    assert triton.pid == 0
    assert not triton.running

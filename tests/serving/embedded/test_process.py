"""Starting, stopping and killing a real Triton."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from exfm.features.schema import Schema
from serving.embedded.errors import EnvironmentUnusableError, TritonStartError
from serving.embedded.loading import Loading, Model
from serving.embedded.process import EmbeddedTriton, TritonOptions
from tests.kernel import children, gone

if TYPE_CHECKING:
    from serving.embedded.environment import TritonEnvironment

MODEL, OTHER = "feed_long_view", "feed_click"


def wait_until(condition: Callable[[], bool], bound_s: float = 10.0) -> None:
    until_s = time.monotonic() + bound_s
    while not condition():
        assert time.monotonic() < until_s, "not so within the bound"
        time.sleep(0.01)


def family(pid: int) -> list[int]:
    """The server and its stubs."""
    return [pid, *children(pid)]


def shared_memory(pid: int) -> list[Path]:
    """The shared memory that a running server maps."""
    words = Path(f"/proc/{pid}/maps").read_text().split()
    return [Path(word) for word in set(words) if word.startswith("/dev/shm/")]


def listening(pid: int) -> list[tuple[str, int]]:
    """Addresses, as the kernel writes them in hex, and ports that a process listens on."""
    links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    rows = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()
    ]
    mine = [row[1].split(":") for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in links]
    return [(address, int(port, 16)) for address, port in mine]


@pytest.fixture
def triton(
    triton_environment: "TritonEnvironment", published_repository: Path, tmp_path: Path
) -> Iterator[EmbeddedTriton]:
    """Not started; stopped whatever happens."""
    server = EmbeddedTriton(triton_environment, published_repository, (MODEL,), tmp_path / "triton.log")
    yield server
    server.stop()


def test_it_listens_on_loopback_only(embedded_triton: EmbeddedTriton) -> None:
    ((address, port),) = set(listening(embedded_triton.pid))
    assert address in ("0100007F", "0000000000000000FFFF00000100007F")
    assert embedded_triton.address == f"127.0.0.1:{port}"
    assert embedded_triton.version.startswith("2.")


def test_it_starts_again_at_the_same_address_and_leaves_nothing(triton: EmbeddedTriton) -> None:
    with triton:
        address, first, shared = triton.address, family(triton.pid), shared_memory(triton.pid)
        assert len(first) == 4, "the server and a stub per instance"
        assert shared
    assert not triton.running
    wait_until(lambda: all(gone(pid) for pid in first))
    assert not any(path.exists() for path in shared)
    with triton:
        assert triton.address == address
        assert triton.pid not in first


def test_a_killed_server_leaves_no_stub(triton: EmbeddedTriton) -> None:
    triton.start()
    pids, shared = family(triton.pid), shared_memory(triton.pid)
    os.kill(triton.pid, signal.SIGKILL)
    wait_until(lambda: not triton.running)
    wait_until(lambda: all(gone(pid) for pid in pids))
    assert not any(path.exists() for path in shared)
    triton.stop()


def test_the_port_of_a_server_that_died_waits_for_the_next(triton: EmbeddedTriton) -> None:
    """Callers know the address; whoever took it meanwhile would keep every start from succeeding."""
    with triton:
        address = triton.address
        os.kill(triton.pid, signal.SIGKILL)
        wait_until(lambda: not triton.running)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", int(address.rpartition(":")[2])))
        triton.start()
        assert triton.address == address
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(address.rpartition(":")[2])))


def test_a_port_that_somebody_has_is_said_at_once(
    triton_environment: "TritonEnvironment", published_repository: Path, tmp_path: Path
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        options = TritonOptions(port=other.getsockname()[1])
        triton = EmbeddedTriton(triton_environment, published_repository, (MODEL,), tmp_path / "log", options)
        with pytest.raises(TritonStartError, match=rf"can't listen on 127\.0\.0\.1:{options.port}"):
            triton.start()
    assert not (tmp_path / "log").exists()


def test_a_stopped_server_is_killed_when_its_time_is_up(
    triton_environment: "TritonEnvironment", published_repository: Path, tmp_path: Path
) -> None:
    options = TritonOptions(stop_s=0.2)
    triton = EmbeddedTriton(triton_environment, published_repository, (MODEL,), tmp_path / "log", options)
    triton.start()
    pids = family(triton.pid)
    os.kill(triton.pid, signal.SIGSTOP)
    triton.stop()
    wait_until(lambda: all(gone(pid) for pid in pids))


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
    with pytest.raises(TritonStartError, match=r"config\.pbtxt says schema_hash"):
        triton.start()
    assert not triton.running

    options = TritonOptions(dispensable=frozenset({MODEL}))
    with EmbeddedTriton(triton_environment, repository, (MODEL, OTHER), tmp_path / "log", options) as triton:
        client = triton_grpc.InferenceServerClient(triton.address)
        assert [client.is_model_ready(name) for name in (MODEL, OTHER)] == [False, True]
        client.close()


class Loader:
    """Stands for Triton: one model doesn't load, the other does when the server ends."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses, self.given_s, self.ended = refuses, dict[str, float](), threading.Event()

    def load_model(self, name: str, config: str | None, client_timeout: float) -> None:  # noqa: ARG002
        self.given_s[name] = client_timeout
        if name == self.refuses:
            raise InferenceServerException("no such engine")
        if self.refuses:
            assert self.ended.wait(10.0)


def test_what_can_be_gone_without_has_only_its_own_time(
    triton_environment: "TritonEnvironment", published_repository: Path, tmp_path: Path
) -> None:
    options, loader = TritonOptions(dispensable=frozenset({MODEL})), Loader()
    triton = EmbeddedTriton(triton_environment, published_repository, (MODEL, OTHER), tmp_path / "log", options)
    triton._loading = Loading({MODEL: Model(1, 0), OTHER: Model(17, 0)})
    triton._load_models(loader, time.monotonic() + 1000.0)
    assert loader.given_s[MODEL] == Loading({MODEL: Model(1, 0)}).bound_s
    assert loader.given_s[OTHER] > 900.0


def test_nobody_waits_for_what_still_loads_when_a_model_has_failed(
    triton_environment: "TritonEnvironment", published_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader, log = Loader(refuses=OTHER), tmp_path / "log"
    log.touch()
    triton = EmbeddedTriton(triton_environment, published_repository, (MODEL, OTHER), log)
    monkeypatch.setattr(triton, "_end", loader.ended.set)
    with pytest.raises(TritonStartError, match="no such engine"):
        triton._load_models(loader, time.monotonic() + 1000.0)


def test_a_slow_start_is_given_up(
    triton_environment: "TritonEnvironment", published_repository: Path, tmp_path: Path
) -> None:
    options = TritonOptions(start_s=0.0, stop_s=0.2)
    triton = EmbeddedTriton(triton_environment, published_repository, (MODEL,), tmp_path / "log", options)
    with pytest.raises(TritonStartError, match=r"not ready within 0\.0 s"):
        triton.start()
    wait_until(lambda: gone(triton.pid))


def test_a_start_has_as_long_as_there_is_to_load_and_says_so(
    triton_environment: "TritonEnvironment",
    published_repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("serving.embedded.loading.SERVER_S", 0.0)
    monkeypatch.setattr("serving.embedded.loading.INSTANCE_S", 0.0)
    monkeypatch.setattr("serving.embedded.loading.BYTES_PER_S", 1e12)
    triton = EmbeddedTriton(triton_environment, published_repository, (MODEL,), tmp_path / "log")
    with caplog.at_level("INFO"), pytest.raises(TritonStartError, match="not ready within"):
        triton.start()
    assert f"Triton loads {MODEL} (" in caplog.text
    monkeypatch.undo()
    with caplog.at_level("INFO"), triton:
        assert f"Triton has loaded {MODEL} in " in caplog.text


def test_a_start_ends_when_it_is_stopped(
    triton_environment: "TritonEnvironment", published_repository: Path, tmp_path: Path
) -> None:
    triton = EmbeddedTriton(triton_environment, published_repository, (MODEL,), tmp_path / "log")
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(triton.start)
        wait_until(lambda: triton.pid > 0)
        os.kill(triton.pid, signal.SIGSTOP)  # one that would not become ready within its bound
        triton.stop()
        with pytest.raises(TritonStartError, match=r"while starting|did not load"):
            start.result(10.0)
    wait_until(lambda: gone(triton.pid))


def test_a_missing_environment_is_said_before_anything_starts(published_repository: Path, tmp_path: Path) -> None:
    from serving.embedded.environment import TritonEnvironment

    triton = EmbeddedTriton(TritonEnvironment(tmp_path / "none"), published_repository, (MODEL,), tmp_path / "log")
    with pytest.raises(EnvironmentUnusableError, match=r"python -m serving\.embedded\.environment --path"):
        triton.start()
    assert not (tmp_path / "log").exists()


def test_stop_without_start_does_nothing(triton: EmbeddedTriton) -> None:
    triton.stop()
    assert triton.pid == 0
    assert not triton.running

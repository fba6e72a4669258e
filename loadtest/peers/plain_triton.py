"""Triton by itself, as its manual has it: the vendored server, the model's Python backend, its dynamic batcher.

The wheel that the server comes in has the Python backend and no other, so the model is run there by this product's own
runner, with ONNX Runtime, and not by Triton's ONNX Runtime backend.
"""

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from exfm.features.signature import OWNER, UNKNOWN
from loadtest.peers.caller import Caller
from loadtest.peers.environments import Report, versions_in
from loadtest.peers.model import Model
from loadtest.peers.own_versions import WHEELS
from loadtest.peers.process import GRACE_S, LOOPBACK, child, free_port
from loadtest.peers.samples import Sample
from loadtest.peers.servers.scoring import MAX_BATCH
from loadtest.peers.systems import WORKERS, Running, await_golden
from loadtest.peers.triton import TritonCaller, server_version
from loadtest.peers.triton_environment import TritonEnvironment, ensure

MAX_QUEUE = 128
QUEUE_SHARE = 0.8
"""The share of the budget that a request may wait in the queue; past it there is none left to score."""


@dataclass(frozen=True)
class PlainTriton:
    """The server called directly.

    Attributes:
        name: as in the figures.
        model: what it serves.
        queue_timeouts: a queue policy that rejects what has waited too long, with the caller's own timeout sent along,
            and a bounded queue; otherwise the dynamic batcher's defaults.
    """

    name: str
    model: Model
    queue_timeouts: bool = False
    ours: bool = False

    def prepare(self, report: Report) -> dict[str, str]:
        """See `System.prepare`."""
        return versions_in(ensure(report).packages, WHEELS)

    @contextlib.contextmanager
    def running(self, log: Path) -> Iterator[Running]:
        """See `System.running`."""
        environment, address = ensure(lambda _: None), f"{LOOPBACK}:{free_port()}"
        with _shared_memory() as prefix, tempfile.TemporaryDirectory(prefix="exfm-") as scratch:
            repository = write_repository(self.model, Path(scratch), self._queue_s())
            command = _command(environment, repository, self.model.vertical, address, prefix)
            with child(command, environment.variables(), log) as pid:
                caller = partial(self._caller, address)
                await_golden(Running(pid, address, caller), self.model, log)
                yield Running(pid, address, caller, {"tritonserver": server_version(address)})

    def _queue_s(self) -> float | None:
        return self.model.budget_s * QUEUE_SHARE if self.queue_timeouts else None

    def _caller(self, address: str, samples: Sequence[Sample]) -> Caller:
        return TritonCaller(address, self.model, samples, self._queue_s())


def _command(environment: TritonEnvironment, repository: Path, name: str, address: str, prefix: str) -> list[str]:
    return [
        str(environment.server),
        f"--model-repository={repository}",
        f"--backend-directory={environment.path / 'backends'}",
        f"--backend-config=python,shm-region-prefix-name={prefix}",
        "--model-control-mode=explicit",
        f"--load-model={name}",
        f"--grpc-address={LOOPBACK}",
        f"--grpc-port={address.rpartition(':')[2]}",
        "--allow-http=false",
        "--allow-metrics=false",
        "--disable-auto-complete-config",
        f"--exit-timeout-secs={int(GRACE_S) - 1}",
    ]


@contextlib.contextmanager
def _shared_memory() -> Iterator[str]:
    """A prefix for the Python backend's regions, which a killed server leaves behind."""
    prefix = f"exfm_peer_{uuid.uuid4().hex[:12]}_"
    try:
        yield prefix
    finally:
        for left in Path("/dev/shm").glob(f"{prefix}*"):
            left.unlink(missing_ok=True)


def write_repository(model: Model, folder: Path, queue_timeout_s: float | None) -> Path:
    """Put the version with a configuration of its own into `folder`, which is returned."""
    home = folder / model.vertical
    shutil.copytree(model.folder, home / str(model.version))
    config = _config(model)
    _take_requests(config)
    batching = config.dynamic_batching
    batching.Clear()
    if queue_timeout_s is not None:
        policy = batching.default_queue_policy
        policy.timeout_action = model_config_pb2.ModelQueuePolicy.REJECT
        policy.default_timeout_microseconds = int(queue_timeout_s * 1e6)
        policy.allow_timeout_override = True
        policy.max_queue_size = MAX_QUEUE
    # Set even when empty: an absent message would switch the batcher off.
    batching.SetInParent()
    config.max_batch_size = MAX_BATCH
    config.instance_group[0].count = WORKERS
    (home / "config.pbtxt").write_text(text_format.MessageToString(config), encoding="utf-8")
    return folder


def _take_requests(config: Any) -> None:
    """Single requests for Triton to join, whoever forms the batches of the published version; the runner takes both."""
    for place in [place for place, entry in enumerate(config.input) if entry.name == OWNER]:
        del config.input[place]
    for entry in config.input:
        entry.allow_ragged_batch = entry.name.startswith("candidate")
        entry.dims[:] = entry.dims if entry.allow_ragged_batch else entry.dims[-1:]
    for entry in config.output:
        entry.dims[:] = [1] if entry.name == UNKNOWN else entry.dims
    for sample in config.model_warmup:
        sample.inputs.pop(OWNER, None)
        for name, value in sample.inputs.items():
            value.dims[:] = value.dims if name.startswith("candidate") else value.dims[-1:]


def _config(model: Model) -> Any:
    """The published configuration, of which inputs, outputs and parameters are kept."""
    path = model.folder.parent / "config.pbtxt"
    return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())

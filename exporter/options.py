"""How to export: what a user may choose."""

from dataclasses import dataclass, field
from pathlib import Path

from exporter.compare import QualityGate
from exporter.configure import Batching, instances_for
from exporter.engines.table import SERVER_PACKAGES
from exporter.lint.facts import Host, this_host

QUICK_ENGINES = ("onnx",)
"""Without a contest: the whole graph in ONNX Runtime, which takes every model and is exact to 1e-5."""
QUICK_BUCKETS = (1, 200)


@dataclass(frozen=True)
class ExportOptions:
    """How to export.

    Attributes:
        batching: how requests become batches; by default with the instances that this machine has cores for.
        engines: which to try; the fastest that is exact enough serves.
        buckets: numbers of candidates to measure latency at; empty: `exporter.profile.BUCKETS` up to the most.
        gate: how much worse than the served version the new one may be.
        signing_key: file of the key to sign with; None: what `exporter.signing.load_signer` finds.
        trusted_keys: folder of the keys to trust besides the repository's own.
        metric_buckets: whether config.pbtxt sets the edges of Triton's latency histogram, which not every Triton can
            read; see `exporter.metrics`.
        server_packages: what the environment of the server that will run it offers to an engine.
        host: the machine that will serve.
    """

    batching: Batching = field(default_factory=lambda: Batching(instances=instances_for(this_host().cores)))
    engines: tuple[str, ...] = QUICK_ENGINES
    buckets: tuple[int, ...] = ()
    gate: QualityGate = field(default_factory=QualityGate)
    signing_key: Path | None = None
    trusted_keys: Path | None = None
    metric_buckets: bool = False
    server_packages: tuple[str, ...] = SERVER_PACKAGES
    host: Host = field(default_factory=this_host)


DEFAULT_OPTIONS = ExportOptions()

"""What rules may look at besides the configuration."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter.configure import FRONTEND, TRITON, Former


@dataclass(frozen=True)
class Host:
    """The machine that will serve.

    Attributes:
        cores: processors that may be used.
        gpus: NVIDIA devices.
    """

    cores: int
    gpus: int


def this_host() -> Host:
    """The machine that this runs on."""
    devices = (path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal())
    return Host(len(os.sched_getaffinity(0)), len(list(devices)))


@dataclass(frozen=True)
class Facts:
    """What is known around a configuration.

    Attributes:
        name: the model's folder.
        host: where it will run.
        manifest: of the version that it names; None if there is none to be read.
        files: of that version's folder, by path within it.
    """

    name: str
    host: Host
    manifest: Mapping[str, Any] | None = None
    files: frozenset[str] = field(default=frozenset())

    @property
    def former(self) -> Former | None:
        """Who forms batches for the version; Triton, where the manifest doesn't say, and None without a manifest."""
        if not self.manifest:
            return None
        batching = self.manifest.get("batching")
        return FRONTEND if isinstance(batching, dict) and batching.get("by") == FRONTEND else TRITON

    @property
    def budget_us(self) -> float | None:
        """The vertical's budget, microseconds."""
        budget_ms = (self.manifest or {}).get("budget_ms")
        return float(budget_ms) * 1e3 if isinstance(budget_ms, int | float) else None

"""What rules may look at besides the configuration."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter.configure import FRONTEND, TRITON, Former

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""What a container may take of the machine's processors, as the kernel's control groups (version 2) say it."""


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
    return Host(usable_cores(), len(list(devices)))


def usable_cores(quota: Path = CPU_QUOTA) -> int:
    """Processors that this process may use: those it may run on, less if its container's quota is less."""
    cores = len(os.sched_getaffinity(0))
    try:
        granted, period = quota.read_text(encoding="ascii").split()
        return max(1, min(cores, math.ceil(int(granted) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return cores


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

"""Under what conditions a run was made: a figure without them can't be compared with any other."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = ("exfm-serving", "grpcio", "protobuf", "numpy", "hdrhistogram", "locust")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_CPUS = Path("/proc/cpuinfo")
_GIT_S = 5.0


def conditions() -> dict[str, Any]:
    """This machine and these versions, for JSON; what can't be found out is left out."""
    found = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "governor": _GOVERNOR.read_text(encoding="ascii").strip() if _GOVERNOR.is_file() else "",
        "load_before": round(os.getloadavg()[0], 2),
        "clock": "CLOCK_MONOTONIC",
        "python": platform.python_version(),
        "commit": _commit(),
    }
    return {name: value for name, value in found.items() if value != ""} | {"versions": _versions()}


def machine_cpu_s() -> float:
    """CPU seconds that all processors of the machine have been busy, or taken by its host, so far."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _processor() -> str:
    if not _CPUS.is_file():
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in _CPUS.read_text().splitlines() if line.startswith("model name"))
    return next(names, platform.processor())


def _commit() -> str:
    """Of the checkout that the generator runs from, `-dirty` behind it if there are changes; empty if it is in none."""
    # Installed into somebody else's checkout, we are no file of that one.
    if not _git("ls-files", "--error-unmatch", Path(__file__).name):
        return ""
    return _git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    try:
        told = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=_GIT_S
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.stdout.strip()

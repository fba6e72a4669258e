"""What this product's own entries in a comparison consist of, by version."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

from loadtest.peers.environments import versions_in
from loadtest.peers.triton_environment import TritonEnvironment

PACKAGE = "exfm-serving"
WHEELS = ("nvidia-pytriton==0.7.0",)
"""The wheel that the Triton server comes in."""
ROOT = Path(__file__).parents[2]
GIT_S = 10.0
_SERVER_VERSION = re.compile(r"^\|\s*server_version\s*\|\s*(\S+)\s*\|", re.MULTILINE)


def own_versions(environment: TritonEnvironment) -> dict[str, str]:
    """By name: the product, its commit if it runs from a checkout, Python, grpcio, and what scores inside Triton."""
    found = {PACKAGE: _version(PACKAGE), "commit": commit(ROOT), "python": sys.version.split()[0]}
    found["grpcio"] = _version("grpcio")
    return {name: each for name, each in found.items() if each} | versions_in(environment.packages, WHEELS)


def commit(folder: Path) -> str:
    """The checkout's commit, short, with `+changes` if files differ from it; empty if it is none or git is missing."""
    if not (folder / ".git").exists():  # an installed copy may lie inside a checkout of something else
        return ""
    head = _git(folder, "rev-parse", "--short=12", "HEAD").strip()
    return f"{head}+changes" if head and _git(folder, "status", "--porcelain") else head


def triton_version(log: Path) -> dict[str, str]:
    """What a Triton server called itself when it started last, by its log; empty if it did not."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    found = _SERVER_VERSION.findall(text)
    return {"tritonserver": found[-1]} if found else {}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ("git", "-C", str(folder), *arguments), capture_output=True, text=True, check=False, timeout=GIT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout

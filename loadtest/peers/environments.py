"""An environment of its own for each peer, built once from exact pins under a cache folder."""

import fcntl
import hashlib
import importlib.metadata
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from loadtest.peers.errors import PeerUnavailableError

VARIABLE = "EXFM_PEERS_CACHE"
DEFAULT = Path("build/peers")
STAMP = "finished"
NICENESS = 10
INSTALL_S = 900.0
COMMON = ("numpy==2.4.6", "onnxruntime==1.31.1")
"""What scoring needs; the same for all."""

Report = Callable[[str], None]


def cache_folder() -> Path:
    """Where the environments lie: `EXFM_PEERS_CACHE`, else `build/peers` in the working directory."""
    return Path(os.environ.get(VARIABLE) or DEFAULT).absolute()


def environment_of(name: str, pins: Sequence[str], cache: Path) -> Path:
    """Where the environment for these pins lies, built or not."""
    text = " ".join((*pins, *COMMON, sys.version.split()[0]))
    return cache / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def is_built(folder: Path) -> bool:
    """Whether the environment was built to its end."""
    return (folder / STAMP).is_file()


def ensure(name: str, pins: Sequence[str], cache: Path, report: Report) -> Path:
    """The environment with `pins`, built now if it wasn't yet. Of several processes one builds, the others wait.

    Raises:
        PeerUnavailableError: it can't be installed here; the message ends with the installer's last word.
    """
    folder = environment_of(name, pins, cache)
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache):
        if not is_built(folder):
            report(f"{name}: installing {', '.join(pins)}")
            venv.EnvBuilder(clear=True, with_pip=False, symlinks=True).create(folder)
            _install(folder, (*pins, *COMMON))
            (folder / STAMP).touch()
    return folder


def packages_of(folder: Path) -> Path:
    """Where an environment's packages lie."""
    return folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def versions_in(packages: Path, pins: Sequence[str]) -> dict[str, str]:
    """Installed versions of the pinned packages, by name; "?" for what isn't there."""
    wanted = [pin.partition("==")[0].partition("[")[0] for pin in (*pins, *COMMON)]
    found = {each.name.lower(): each.version for each in importlib.metadata.distributions(path=[str(packages)])}
    return {name: found.get(name.lower(), "?") for name in wanted}


def _install(folder: Path, pins: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--no-input"]
    command += ["--quiet", "--disable-pip-version-check", "--only-binary", ":all:", *pins]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as pip:
        os.setpriority(os.PRIO_PROCESS, pip.pid, NICENESS)
        try:
            _, words = pip.communicate(timeout=INSTALL_S)
        except subprocess.TimeoutExpired:
            pip.kill()
            raise PeerUnavailableError(f"not installed within {INSTALL_S:g} s") from None
    if pip.returncode:
        said = [line for line in words.splitlines() if line.startswith("ERROR")] or ["pip said nothing"]
        raise PeerUnavailableError(f"not installable here: {said[-1].removeprefix('ERROR: ')[:300]}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

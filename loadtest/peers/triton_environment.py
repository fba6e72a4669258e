"""The vendored Triton server's environment, as its own command tells of it."""

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from loadtest.peers.environments import Report, packages_of
from loadtest.peers.errors import PeerUnavailableError
from loadtest.peers.process import clean_environment

VARIABLE = "EXFM_TRITON_ENV"
DEFAULT = ".venv-triton"
INSTALL_S = 900.0
COMMAND = (sys.executable, "-m", "serving.embedded.environment", "--json")


@dataclass(frozen=True)
class TritonEnvironment:
    """Where it lies.

    Attributes:
        path: its root.
        server: the program.
    """

    path: Path
    server: Path

    @property
    def packages(self) -> Path:
        """Where its wheels are unpacked."""
        return packages_of(self.path)

    def variables(self) -> dict[str, str]:
        """The process's variables: its own programs first, and the libraries that the Python backend's stub needs."""
        places = (str(sysconfig.get_config_var("LIBDIR")), str(self.packages / "nvidia_pytriton.libs"))
        programs = (str(self.path / "bin"), os.environ.get("PATH", os.defpath))
        return clean_environment(
            PATH=os.pathsep.join(programs), LD_LIBRARY_PATH=os.pathsep.join(places), VIRTUAL_ENV=str(self.path)
        )


def default_path() -> Path:
    """Where `exfm-serve` looks for it, absolute."""
    return Path(os.environ.get(VARIABLE) or DEFAULT).absolute()


def ensure(report: Report) -> TritonEnvironment:
    """The environment, built now if it wasn't yet; `PeerUnavailableError` if it can't be."""
    if not default_path().is_dir():
        report(f"building the Triton server's environment in {default_path()}")
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, check=False, timeout=INSTALL_S)
    except subprocess.TimeoutExpired:
        raise PeerUnavailableError(f"the Triton server's environment was not built within {INSTALL_S:g} s") from None
    if done.returncode:
        raise PeerUnavailableError(done.stderr.strip())
    told = json.loads(done.stdout)
    return TritonEnvironment(Path(told["path"]), Path(told["server"]))

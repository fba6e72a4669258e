"""The Triton server's own Python environment, kept apart from the product's.

The embedded server's Python backend answers empty tensors, without an error, when it finds numpy 2. Its environment is
therefore one of its own, pinned by `constraints.txt` beside this module, and holds a private copy of the backends with
the stub of this Python version beside the backend's library.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from serving.embedded.errors import EnvironmentUnusableError

VARIABLE = "EXFM_TRITON_ENV"
DEFAULT_NAME = ".venv-triton"
REQUIREMENTS = ("nvidia-pytriton==0.7.0", "numpy==1.26.4", "onnxruntime==1.31.1", "openvino==2026.4.1")
STAMP = "exfm-stamp.json"
_STUB_S = 60.0
_STUB = "triton_python_backend_stub"
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class TritonEnvironment:
    """A built environment; `path` is its root."""

    path: Path

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def backends(self) -> Path:
        """The private copy of the backend directory."""
        return self.path / "backends"

    @property
    def packages(self) -> Path:
        """Where the wheels are unpacked."""
        return self.path / "lib" / f"python{_PYTHON}" / "site-packages"

    @property
    def triton(self) -> Path:
        """The folder of the wheel that holds the server, its backends and the stubs."""
        return self.packages / "pytriton" / "tritonserver"

    @property
    def stub(self) -> Path:
        """The program that runs a Python-backend model, started by `starter`."""
        return self.backends / "python" / "real" / _STUB

    @property
    def starter(self) -> Path:
        """What Triton takes for the stub."""
        return self.backends / "python" / _STUB

    @property
    def server(self) -> Path:
        return self.triton / "bin" / "tritonserver"

    def variables(self) -> dict[str, str]:
        """Environment variables of the server: its own programs first, the stub's libraries found, one thread."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return inherited | {
            "PATH": os.pathsep.join((str(self.path / "bin"), os.environ.get("PATH", os.defpath))),
            "LD_LIBRARY_PATH": os.pathsep.join(
                (str(_python_library().parent), str(self.packages / "nvidia_pytriton.libs"))
            ),
            "VIRTUAL_ENV": str(self.path),
            "OMP_NUM_THREADS": "1",
        }

    def verify(self) -> None:
        """Raise `EnvironmentUnusableError` unless the environment was built completely, by these pins."""
        stamp = self.path / STAMP
        found = stamp.read_text(encoding="utf-8") if stamp.is_file() else ""
        if not found:
            raise EnvironmentUnusableError(f"no finished Triton environment at {self.path}; {_remedy(self.path)}")
        if found != _stamp_text():
            raise EnvironmentUnusableError(
                f"the Triton environment at {self.path} has other pins; {_remedy(self.path)}"
            )
        for needed in (self.python, self.server, self.stub, self.starter):
            if not needed.exists():
                raise EnvironmentUnusableError(f"{needed} is missing; {_remedy(self.path)}")
        if not _starter_stands(self):
            raise EnvironmentUnusableError(f"{self.starter} is another release's; {_remedy(self.path)}")
        _check_stub(self)


def default_path() -> Path:
    """Where the environment lies: `EXFM_TRITON_ENV`, else `.venv-triton` in the working directory."""
    return Path(os.environ.get(VARIABLE) or DEFAULT_NAME).absolute()


def ensure(path: Path | None = None, report: Callable[[str], None] = lambda _: None) -> TritonEnvironment:
    """Return the environment at `path` (default: `default_path()`), building it first if it is missing or stale.

    Several processes may call this at once; one builds, the others wait.

    Raises:
        EnvironmentUnusableError: it could not be built; the message ends with the installer's last lines. Or the folder
            holds something else, which is left as it is.
    """
    environment = TritonEnvironment((path or default_path()).absolute())
    try:
        environment.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentUnusableError(f"no folder for the Triton environment: {error}") from error
    with _locked(environment.path):
        try:
            if environment.stub.is_file() and not _starter_stands(environment):
                _place_starter(environment)
            environment.verify()
        except EnvironmentUnusableError as reason:
            report(str(reason).split(";", maxsplit=1)[0])
            _build(environment, report)
            environment.verify()
    return environment


def _build(environment: TritonEnvironment, report: Callable[[str], None]) -> None:
    _python_library()
    if environment.path.is_symlink():
        raise EnvironmentUnusableError(f"{environment.path} is a link; remove it, or name the folder that it points to")
    # What stands is given up only now, when nothing is known that speaks against a new one.
    _clear(environment.path)
    report(f"creating {environment.path}")
    venv.EnvBuilder(with_pip=True, symlinks=True).create(environment.path)
    report(f"installing {', '.join(REQUIREMENTS)}")
    with resources.as_file(resources.files("serving.embedded") / "constraints.txt") as constraints:
        options = ("--quiet", "--disable-pip-version-check", "--no-input", "--only-binary", ":all:")
        _run(str(environment.python), "-m", "pip", "install", *options, "-c", str(constraints), *REQUIREMENTS)
    report("placing the Python backend's stub")
    _copy_backends(environment)
    _run(str(environment.python), "-c", "import numpy, onnxruntime; assert numpy.__version__ < '2'")
    _check_stub(environment)
    (environment.path / STAMP).write_text(_stamp_text(), encoding="utf-8")


def _clear(folder: Path) -> None:
    """Empty a folder of ours but for its stamp, which says from here to the end of the build: ours, and unfinished."""
    stamp = folder / STAMP
    entries = list(folder.iterdir())
    if entries and (stamp.is_symlink() or not stamp.is_file()):
        raise EnvironmentUnusableError(
            f"{folder} is not empty, and no Triton environment that was built here: it has no {STAMP}; nothing in it "
            f"was touched; remove it yourself, or name another folder with --path or {VARIABLE}"
        )
    stamp.write_text("", encoding="utf-8")
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != stamp:
            entry.unlink()


def _copy_backends(environment: TritonEnvironment) -> None:
    """Copy the wheel's backends: the stub must stand beside the backend's library, and wheels are not edited."""
    stub = environment.triton / "python_backend_stubs" / _PYTHON / _STUB
    if not stub.is_file():
        raise EnvironmentUnusableError(f"the Triton wheel has no Python backend for Python {_PYTHON}")
    shutil.rmtree(environment.backends, ignore_errors=True)
    shutil.copytree(environment.triton / "backends", environment.backends, ignore=shutil.ignore_patterns("__pycache__"))
    environment.stub.parent.mkdir()
    shutil.copy2(stub, environment.stub)
    _place_starter(environment)


def _starter_stands(environment: TritonEnvironment) -> bool:
    starter = environment.starter
    return os.access(starter, os.R_OK | os.X_OK) and starter.read_bytes() == _own("start_stub.sh")


def _place_starter(environment: TritonEnvironment) -> None:
    """At once, for a Triton that runs may want it."""
    made = environment.starter.with_suffix(".new")
    made.write_bytes(_own("start_stub.sh"))
    made.chmod(0o755)
    made.replace(environment.starter)


def _check_stub(environment: TritonEnvironment) -> None:
    """Refuse a stub whose libraries are not found; started without arguments it otherwise just ends."""
    command, variables = (str(environment.stub),), environment.variables()
    try:
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=_STUB_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentUnusableError(f"{environment.stub} can't be run: {error}") from error
    if "error while loading shared libraries" in done.stderr:
        raise EnvironmentUnusableError(done.stderr.strip())


def _python_library() -> Path:
    """Python's own shared library, which the stub is linked to."""
    name = str(sysconfig.get_config_var("INSTSONAME"))
    library_dir = Path(str(sysconfig.get_config_var("LIBDIR")))
    places = (library_dir, library_dir / str(sysconfig.get_config_var("MULTIARCH")), Path(sys.base_prefix) / "lib")
    for place in places:
        if ".so" in name and (place / name).exists():
            return place / name
    raise EnvironmentUnusableError(f"this Python ({sys.base_prefix}) has no shared library; use one that has libpython")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise EnvironmentUnusableError(f"{' '.join(command[:4])} … failed with {done.returncode}:\n{tail}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _stamp_text() -> str:
    pins = _own("constraints.txt") + " ".join(REQUIREMENTS).encode()
    return json.dumps({"pins": hashlib.sha256(pins).hexdigest(), "python": sys.version.split()[0]})


def _own(name: str) -> bytes:
    """A file that lies beside this module."""
    return (resources.files("serving.embedded") / name).read_bytes()


def _remedy(path: Path) -> str:
    return f"build it with: python -m serving.embedded.environment --path {path}"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m serving.embedded.environment`."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.embedded.environment",
        description="Build the embedded Triton server's own Python environment (450 MB), unless it stands already.",
        epilog="example: python -m serving.embedded.environment --path .venv-triton",
    )
    parser.add_argument("--path", type=Path, help=f"where (default: ${VARIABLE}, else ./{DEFAULT_NAME})")
    parser.add_argument("--check", action="store_true", help="only say whether it stands; build nothing")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    options = parser.parse_args(argv)
    started_s = time.monotonic()

    def report(step: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - started_s:6.1f} s] {step}\n")

    try:
        if options.check:
            environment = TritonEnvironment((options.path or default_path()).absolute())
            environment.verify()
        else:
            environment = ensure(options.path, report)
    except (EnvironmentUnusableError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    result = {"path": str(environment.path), "server": str(environment.server)}
    sys.stdout.write(f"{json.dumps(result)}\n" if options.json else f"Triton environment: {environment.path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

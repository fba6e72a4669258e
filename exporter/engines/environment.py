"""What the environment of the server that will run a version offers to an engine."""

import json
import logging
import os
import subprocess
from functools import lru_cache
from pathlib import Path

from exporter.engines.recipes import RECIPES
from exporter.engines.table import SERVER_PACKAGES

VARIABLE, DEFAULT_NAME = "EXFM_TRITON_ENV", ".venv-triton"
STAMP = "exfm-stamp.json"
"""Empty from the beginning of the environment's making to its end."""
PATIENCE_S = 30.0
_ASK = """\
import importlib.util, json, sys
print(json.dumps([name for name in sys.argv[1:] if importlib.util.find_spec(name)]))
"""
log = logging.getLogger(__name__)


def server_packages() -> tuple[str, ...]:
    """Packages that engines need and the embedded server's environment has; `SERVER_PACKAGES`, if it isn't there yet
    or was not made to its end.

    It lies where the server looks for it: `EXFM_TRITON_ENV`, else `.venv-triton` in the working directory.
    """
    return ask(Path(os.environ.get(VARIABLE) or DEFAULT_NAME).absolute())


@lru_cache
def ask(environment: Path) -> tuple[str, ...]:
    """Ask the environment's own Python, once; one that does not answer is taken for a usual one, with a warning."""
    python = environment / "bin" / "python"
    if not python.exists() or _is_unfinished(environment / STAMP):
        return SERVER_PACKAGES
    wanted = sorted({package for recipe in RECIPES.values() for package in recipe.packages})
    try:
        # -I: neither this process's PYTHONPATH nor its working directory is the server's.
        done = subprocess.run(
            [str(python), "-I", "-c", _ASK, *wanted], check=True, capture_output=True, text=True, timeout=PATIENCE_S
        )
        return tuple(json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        log.warning(
            "%s does not say what it has (%s); taken for granted: %s", python, error, ", ".join(SERVER_PACKAGES)
        )
        return SERVER_PACKAGES


def _is_unfinished(stamp: Path) -> bool:
    return stamp.is_file() and stamp.stat().st_size == 0

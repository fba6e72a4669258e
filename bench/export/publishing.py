"""What publishing promises: nobody ever sees a broken version, and a new one loads without being felt."""

import argparse
import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

from bench.export.killing import kill_everywhere, republish
from bench.export.reload import Reloading
from bench.overload.repository import find_or_make
from exporter.home import CONFIG, parse_config, served_version
from exporter.signing import OWN_KEY, make_key, trust
from serving.embedded.environment import ensure
from serving.embedded.process import EmbeddedTriton
from serving.embedded.yielding import may_yield
from serving.repository import load_catalog, triton_configs

CANDIDATES = 200
RELOADS = 15
"""So many that both p99s are of 3,000 requests."""


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Kill publishers at every step, and reload under load.

    Args:
        asked: `out`, the folder for all files, and `seed`, of requests and arrivals.

    Returns:
        `kill`: see `bench.export.killing.kill_everywhere`; `reload`: see `bench.export.reload.Sample.to_dict`.
    """
    repository = find_or_make(None, asked.out)
    name = next(iter(load_catalog(repository)))
    source = repository / name / str(served_version(repository / name))
    scratch = asked.out / "publishing"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    sys.stderr.write("kill -9 at every step\n")
    killed = kill_everywhere(source, scratch / "kill")
    shutil.rmtree(scratch / "kill", ignore_errors=True)
    sys.stderr.write(f"{RELOADS} reloads under load\n")
    return {"kill": killed, "reload": measure_reload(source, scratch / "reload", asked.seed)}


def measure_reload(source: Path, folder: Path, seed: int, reloads: int = RELOADS) -> dict[str, Any]:
    """Publish a version twice, and let a Triton of its own go from one to the other and back under load.

    Returns:
        As `measure` says, and `idle_start`: whether instances could start in the idle class.
    """
    repository = folder / "model_repository"
    trust(repository, make_key(repository / OWN_KEY).key.public_key())
    versions = [int(republish(source, repository).name) for _ in range(2)]
    name = source.parent.name
    catalog = load_catalog(repository)
    vertical = catalog[name]
    config = parse_config((repository / name / CONFIG).read_bytes())
    load = Reloading(vertical, config, min(CANDIDATES, vertical.max_candidates), seed)
    models = triton_configs(repository, catalog)
    with EmbeddedTriton(ensure(), repository, models, folder / "triton.log") as triton:
        sample = asyncio.run(load.run(triton.address, versions[::-1], reloads))
    return sample.to_dict() | {"idle_start": may_yield()}

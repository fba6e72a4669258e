"""A frontend's machine that is gone: three frontends in network namespaces, and one's cable is pulled under load.

`python -m bench.scale.namespaces FOLDER REPOSITORY SECONDS REQUESTS_PER_S`, in a namespace of its own, prints JSON.
"""

import asyncio
import json
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from bench.scale.fleet import Eventful, triton
from bench.scale.machines import HERE, Machines, join
from bench.scale.plant import CANDIDATES, COUNT, VIAS, Plant, driven
from bench.scale.reading import served_from
from bench.scale.servers import envoy_server
from loadtest.arrivals.schedule import poisson
from loadtest.checking.outcomes import Outcome
from serving.embedded.process import EVERYWHERE

AWAY_S = 0.1
"""How long a client waits for an answer, so that what is not answered isn't taken for what is late."""
NAMESPACE = ("unshare", "--map-root-user", "--net")


def measure(folder: Path, repository: Path, *, seconds: float, per_s: float) -> dict[str, Any] | None:
    """Pull the cable of one of three frontends at a third of a drive; None where namespaces may not be made.

    Returns:
        For each way (`round_robin`, `envoy`): how many requests were `unanswered` or `failed` from then on, of how many
        (`offered`), and how long after it the last of them was sent, `last_s`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (shutil.which("unshare") and shutil.which("ip")):
        return None
    if subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode:
        return None
    numbers = [str(seconds), str(per_s)]
    command = [*NAMESPACE, sys.executable, "-m", "bench.scale.namespaces", str(folder), str(repository), *numbers]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    report: dict[str, Any] = json.loads(said.splitlines()[-1])
    return report


def main(folder: Path, repository: Path, seconds: float, per_s: float) -> dict[str, Any]:
    """In the namespace: start everything, and pull a cable under each way's load."""
    join()
    with ExitStack() as stack:
        address = stack.enter_context(triton(repository, folder / "triton.log", EVERYWHERE))
        arguments = ["--triton", f"{HERE}:{address.rpartition(':')[2]}", "--share", f"1/{COUNT}", "--parallelism", "2"]
        machines = stack.enter_context(Machines(folder, repository, arguments, COUNT))
        proxy, admin = envoy_server(folder / "envoy", machines.addresses)
        served = served_from(repository, CANDIDATES)
        plant = Plant(machines, served, stack.enter_context(proxy), admin)
        return {via: asyncio.run(_pulled(plant, machines, via, seconds, per_s)) for via in VIAS}


async def _pulled(plant: Plant, machines: Machines, via: str, seconds: float, per_s: float) -> dict[str, Any]:
    schedule = poisson(per_s, round(per_s * seconds), 0)
    third = len(schedule) // 3

    async def pull(_: Eventful) -> None:
        await asyncio.to_thread(machines.pull, 0)

    record = (await driven(plant, via, schedule, {third: pull}, timeout_s=AWAY_S)).record
    machines.plug(0)
    tiers = record.tier[third:]
    lost = np.isin(tiers, (Outcome.FAILED, Outcome.UNANSWERED))
    last_s = float(record.at_s[third:][lost].max() - record.at_s[third]) if lost.any() else 0.0
    counts = {str(name): int((tiers == name).sum()) for name in (Outcome.FAILED, Outcome.UNANSWERED)}
    return {**counts, "offered": len(tiers), "last_s": last_s}


if __name__ == "__main__":
    made = main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
    sys.stdout.write(json.dumps(made) + "\n")

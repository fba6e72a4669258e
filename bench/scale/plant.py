"""Three frontends that share nothing but Triton, log and store, Envoy before them, and loads on each way to them."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bench.scale.balancers import (
    Direct,
    connected_by_channelz,
    envoy,
    healthy_in_envoy,
    in_flight_by_channelz,
    in_flight_in_envoy,
    round_robin,
)
from bench.scale.fleet import Event, Eventful, Fleet, triton
from bench.scale.machines import Machines
from bench.scale.reading import Served, publish
from bench.scale.servers import Server, envoy_server, free_ports, nats_nodes, valkey_server
from loadtest.arrivals.schedule import poisson
from loadtest.driving.rank_target import RankTarget
from loadtest.driving.target import Result, Target, drive

COUNT, CANDIDATES = 3, 200
VIAS = ("round_robin", "envoy")
BURST = 9
"""In the midst of a schedule so many requests are sent at once, so that something is in flight."""
CONNECTED_S, PAUSE_S = 30.0, 0.02
WARM_UP = 12


@dataclass(frozen=True)
class Plant:
    """The frontends, what is served, and Envoy before them."""

    fleet: Fleet | Machines
    served: Served
    envoy: Server
    admin: int

    def target(self, via: str, *, retries: bool = True) -> RankTarget | Direct:
        """The way of that name, `direct` or one of `VIAS`."""
        if via == "direct":
            return Direct(self.fleet.addresses, self.served.workload)
        if via == "envoy":
            return envoy(self.envoy.port, self.served.workload, retries=retries)
        return round_robin(self.fleet.addresses, self.served.workload, retries=retries)

    def in_flight(self, via: str, number: int) -> int:
        """Requests that frontend has not answered, by the books of whoever sends them there."""
        if via == "envoy":
            return in_flight_in_envoy(self.admin, self.fleet.ports[number])
        return in_flight_by_channelz(self.fleet.addresses[number])

    def connected(self, via: str) -> int:
        """Frontends that requests go to."""
        return healthy_in_envoy(self.admin) if via == "envoy" else connected_by_channelz()


@contextmanager
def planted(folder: Path) -> Iterator[Plant]:
    """Triton, JetStream, Valkey, three frontends and Envoy, all started for it."""
    served = publish(folder / "model", CANDIDATES)
    (nats,), valkey = nats_nodes(folder / "nats"), valkey_server(folder / "valkey")
    with ExitStack() as stack:
        for server in (nats, valkey):
            stack.enter_context(server)
        store = f"redis://127.0.0.1:{valkey.port}/0"
        served.remember(store)
        address = stack.enter_context(triton(served.repository, folder / "triton.log"))
        shared = ["--triton", address, "--share", f"1/{COUNT}", "--parallelism", "2"]
        arguments = [*shared, "--log", f"nats://127.0.0.1:{nats.port}/ads", "--histories", store]
        fleet = stack.enter_context(Fleet(folder / "frontends", served.repository, arguments, free_ports(COUNT)))
        proxy, admin = envoy_server(folder / "envoy", fleet.addresses)
        yield Plant(fleet, served, stack.enter_context(proxy), admin)


async def driven(
    plant: Plant,
    via: str,
    schedule: NDArray[np.float64],
    events: Mapping[int, Event] = MappingProxyType({}),
    *,
    retries: bool = True,
    timeout_s: float | None = None,
) -> Result:
    """Send a schedule one way, once requests go to every frontend; events as in `Eventful`."""
    async with plant.target(via, retries=retries) as target:
        await connected(plant, via, target)
        load = Eventful(target, events)
        result = await drive(load, schedule, plant.served.vertical.budget_s, timeout_s=timeout_s)
        await load.settled()
    return result


async def connected(plant: Plant, via: str, target: Target) -> None:
    """Warm up, until requests go to every frontend; `TimeoutError` if they never do."""
    async with asyncio.timeout(CONNECTED_S):
        for index in count():
            await target.send(index, 1.0)
            if index >= WARM_UP and (via == "direct" or await asyncio.to_thread(plant.connected, via) == COUNT):
                return
            await asyncio.sleep(PAUSE_S)


def schedule_with_burst(per_s: float, seconds: float, seed: int) -> tuple[NDArray[np.float64], int]:
    """Instants with a burst in their midst, and the number of its last request."""
    half = poisson(per_s, round(per_s * seconds / 2), seed)
    return np.concatenate([half, np.full(BURST, half[-1]), half[-1] + half]), len(half) + BURST - 1

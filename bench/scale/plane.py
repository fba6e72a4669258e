"""The whole asynchronous plane over JetStream and Valkey, its processes and both servers killed at random instants."""

from pathlib import Path
from typing import Any

from bench.asynchrony.kill import kill_rounds
from bench.scale.servers import nats_nodes, valkey_server
from exfm.augment.places import Places


def measure(folder: Path, *, rounds: int, seed: int) -> dict[str, Any]:
    """`bench.asynchrony.kill.kill_rounds`, with five victims in turn; both servers come back at once.

    One JetStream node, and a Valkey that syncs each write: what it has acknowledged is there when it comes back.
    """
    (node,), valkey = nats_nodes(folder / "nats"), valkey_server(folder / "valkey", "--appendfsync", "always")
    plane = folder / "plane"
    plane.mkdir()
    with node, valkey:
        places = Places(
            f"nats://127.0.0.1:{node.port}/ads",
            plane / "join.sqlite",
            plane / "stream",
            f"redis://127.0.0.1:{valkey.port}/0",
            plane / "snapshots",
        )
        engines = {"jetstream": node, "valkey": valkey}
        return kill_rounds(plane, rounds, seed=seed, rps=100.0, gap_s=1.0, places=places, engines=engines).plain()

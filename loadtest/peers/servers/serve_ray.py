"""Ray Serve: a replica per core with its dynamic batching, in the mode that its manual calls throughput-optimised."""

import importlib
import signal
from pathlib import Path
from typing import Any

import ray  # type: ignore[import-not-found,unused-ignore]
from arguments import HOST, arguments  # type: ignore[import-not-found]
from ray import serve
from scoring import MAX_BATCH, PATH, Scoring  # type: ignore[import-not-found]
from starlette.requests import Request
from starlette.responses import Response


class Peer:
    """Raw bytes both ways."""

    def __init__(self, model: str) -> None:
        self._scoring = Scoring(Path(model))

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0.0)  # type: ignore[untyped-decorator,unused-ignore]
    async def _score(self, bodies: list[bytes]) -> list[bytes]:
        answers: list[bytes] = self._scoring.score(bodies)
        return answers

    async def __call__(self, request: Request) -> Response:
        return Response(await self._score(await request.body()), media_type="application/octet-stream")


def stay_on_loopback() -> None:
    """In each worker process: a replica's inner gRPC server would listen on all interfaces, and has no option."""
    replica: Any = importlib.import_module("ray.serve._private.replica")  # the workers' own
    add_port = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, _: add_port(server, f"{HOST}:0")


if __name__ == "__main__":
    asked = arguments()
    ray.init(
        num_cpus=asked.workers,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=str(Path.cwd()),
        runtime_env={"worker_process_setup_hook": stay_on_loopback},
    )
    serve.start(http_options={"host": HOST, "port": asked.port})
    deployment = serve.deployment(
        num_replicas=asked.workers, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 1}
    )
    serve.run(deployment(Peer).bind(str(asked.model)), route_prefix=PATH)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()  # type: ignore[no-untyped-call,unused-ignore]
    ray.shutdown()

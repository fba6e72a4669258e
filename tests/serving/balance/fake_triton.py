"""A process that speaks Triton's protocol: `fake_triton.py PORT PAUSE_MS NAME=TASKS=DIGEST...`; it prints its address.

It answers what `known_probability` in `tests/serving/conftest.py` expects, after a pause.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # untyped library
    """Has the models that it was told of."""

    def __init__(self, pause_s: float, models: dict[str, tuple[int, str]]) -> None:
        self._pause_s = pause_s
        self._models = models

    async def ServerMetadata(self, _: Any, __: Any) -> Any:  # noqa: N802 the library's
        return service_pb2.ServerMetadataResponse(name="triton", version="2.70.0")

    async def ModelConfig(self, request: Any, _: Any) -> Any:  # noqa: N802 the library's
        answer = service_pb2.ModelConfigResponse()
        answer.config.parameters["schema_hash"].string_value = self._models[request.name][1]
        return answer

    async def ModelStreamInfer(self, requests: Any, _: Any) -> AsyncIterator[Any]:  # noqa: N802 the library's
        async for request in requests:
            yield service_pb2.ModelStreamInferResponse(infer_response=await self._score(request))

    async def _score(self, request: Any) -> Any:
        await asyncio.sleep(self._pause_s)
        at = [tensor.name for tensor in request.inputs].index("candidate_ids")
        ids = np.frombuffer(request.raw_input_contents[at], "<i8").reshape(tuple(request.inputs[at].shape)[1:])
        share = (ids[:, 0] % 1000) / 1000
        tasks = self._models[request.model_name][0]
        probability = np.stack([share, *[1 - share] * (tasks - 1)], axis=1).astype("<f4")
        answer = service_pb2.ModelInferResponse()
        answer.outputs.add(name="probability", datatype="FP32", shape=(1, *probability.shape))
        answer.outputs.add(name="unknown", datatype="INT32", shape=(1,))
        answer.raw_output_contents.extend([probability.tobytes(), np.zeros(1, "<i4").tobytes()])
        return answer


async def main(port: str, pause_ms: str, *models: str) -> None:
    """Serve until killed."""
    known = {name: (int(tasks), digest) for name, tasks, digest in (model.split("=") for model in models)}
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(FakeTriton(float(pause_ms) / 1e3, known), server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    sys.stdout.write(f"127.0.0.1:{bound}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

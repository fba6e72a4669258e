"""A client that knows nothing but the address."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def _ask(address: str) -> tuple[set[str], Any]:
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = set(database.get_services())
        pool = descriptor_pool.DescriptorPool(database)
        method = pool.FindServiceByName("exfm.ranking.v1.RankingService").methods_by_name["DescribeVertical"]
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        call = channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        return services, call(request(vertical="feed_click"), timeout=5)


async def test_a_generic_client_finds_the_service_and_calls_it(
    running: Callable[..., Any], scripted: Callable[..., Any]
) -> None:
    async with running(scripted()) as (address, _):
        services, said = await asyncio.to_thread(_ask, address)
    assert services == {
        "exfm.ranking.v1.RankingService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert (said.vertical, list(said.tasks), said.max_candidates) == ("feed_click", ["click", "like"], 500)

"""What a caller of our server makes of its answers."""

import grpc
import pytest

from loadtest.peers.caller import RefusedError
from loadtest.peers.ranking import error_of
from serving.rpc.pb import ranking_pb2 as pb


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, RefusedError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, TimeoutError),
        (grpc.StatusCode.INVALID_ARGUMENT, RuntimeError),
    ],
)
def test_a_refusal_is_what_its_status_would_have_been(code: grpc.StatusCode, kind: type[Exception]) -> None:
    error = error_of(pb.Refusal(code=code.value[0], message="why"))
    assert type(error) is kind

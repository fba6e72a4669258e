"""How a client's channel behaves: several servers behind one name, and none of them missed when it leaves."""

import json
from ipaddress import ip_address
from typing import Any

# As much as a server reads at the most; what is larger needn't be sent.
MAX_MESSAGE_BYTES = 64 << 20

_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        # What asks over streams sees to it itself: here it would be each of their calls that is made once more.
        {"name": [{"service": "exfm.ranking.v1.RankingService", "method": "RankStream"}]},
        {
            "name": [{"service": "exfm.ranking.v1.RankingService"}],
            # UNAVAILABLE is what a call gets that crosses a server's good-bye, or whose connection broke; CANCELLED, if
            # that server had it already and gave it up unread. A ranking changes nothing, so it may be asked for again,
            # once, within the same deadline. Refusals for overload have another code, and stay. A backoff of a
            # millisecond would end calls at their deadline: with the jitter, the library rounds it down to none and
            # never tries again.
            "retryPolicy": {
                "maxAttempts": 2,
                "initialBackoff": "0.005s",
                "maxBackoff": "0.005s",
                "backoffMultiplier": 1,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        },
    ],
}

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # A machine that has gone, or hangs, says no good-bye. Who has sent nothing for a second is asked for a sign of
    # life, and done without if none comes within another. What ends it is the ping's own timeout, by default a minute.
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 1000),
    ("grpc.http2.ping_timeout_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # One that is back gets its share again within two seconds; the library's own default may wait two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
]
"""Each request goes to the next server that is connected. Servers aren't asked for their health: one that has lost its
models still answers from the prior, and when all have lost them there must be somebody left to ask."""


def target_of(address: str) -> str:
    """What gRPC calls that address, which is one of

    - `host:port` or `dns:///host:port`: every address that the name has is a server;
    - `10.0.0.1:8500,10.0.0.2:8500`, `[::1]:8500,...`: these servers; numbers, for gRPC looks up one name per channel;
    - anything else that gRPC knows, such as `unix:/run/exfm.sock`.

    Raises:
        ValueError: a list has something else than numeric host:port, or both kinds of numbers.
    """
    if "," not in address or address.startswith(("ipv4:", "ipv6:")):
        return address
    parts = [part.strip() for part in address.split(",")]
    kinds = {_kind(part) for part in parts}
    if len(kinds) > 1:
        raise ValueError(f"{address!r}: IPv4 and IPv6 addresses can't stand in one list; give one DNS name instead")
    return f"{kinds.pop()}:{','.join(parts)}"


def _kind(part: str) -> str:
    host, _, port = part.rpartition(":")
    try:
        if not (port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(f"no port: {port!r}")
        return f"ipv{ip_address(host.removeprefix('[').removesuffix(']')).version}"
    except ValueError:
        raise ValueError(
            f"{part!r} is no numeric HOST:PORT; several servers by name are one DNS name, not a list"
        ) from None

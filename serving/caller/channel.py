"""How a client's channel behaves: several servers behind one name, and none of them missed when it leaves."""

import json
from typing import Any

# As much as a server reads at the most; what is larger needn't be sent.
MAX_MESSAGE_BYTES = 64 << 20

_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": "exfm.ranking.v1.RankingService"}],
            # UNAVAILABLE is what a call gets that crosses a server's good-bye, or whose connection broke. A ranking
            # changes nothing, so it may be asked for again, once, within the same deadline. Refusals for overload have
            # another code, and stay. A backoff of a millisecond would end calls at their deadline: with the jitter, the
            # library rounds it down to none and never tries again.
            "retryPolicy": {
                "maxAttempts": 2,
                "initialBackoff": "0.005s",
                "maxBackoff": "0.005s",
                "backoffMultiplier": 1,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
]
"""For an address of one server, a DNS name of several, or a list such as `ipv4:10.0.0.1:8500,10.0.0.2:8500`."""

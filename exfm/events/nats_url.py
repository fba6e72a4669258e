"""Where a JetStream log is: `nats://[user:password@]host:port[,host:port...]/stream[?replicas=3&window_s=600]`."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from exfm.events.urls import UrlError

_HOST = re.compile(r"(?:[A-Za-z0-9._~%!$&'()*+;=:-]+@)?(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})")
_STREAM = re.compile(r"[A-Za-z0-9_-]{1,64}")
REPLICAS = (1, 3, 5)


@dataclass(frozen=True)
class NatsPlace:
    """A parsed URL.

    Attributes:
        servers: URLs of the cluster's nodes; any may be down.
        stream: name of the stream; its subjects are `stream.topic`.
        replicas: how many nodes keep each record, 1, 3 or 5; 0: as many as the stream has, 1 if it must be made.
        window_s: how long the server knows a batch's id; a batch that is sent again later than that is added again.
        timeout_s: how long one call may take.
    """

    servers: tuple[str, ...]
    stream: str
    replicas: int = 0
    window_s: float = 600.0
    timeout_s: float = 2.0

    def __str__(self) -> str:
        return f"{self.servers[0].rpartition('@')[2].removeprefix('nats://')}/{self.stream}"

    @classmethod
    def parse(cls, rest: str) -> "NatsPlace":
        """The place behind `nats:`; `UrlError` names the part that is wrong."""
        if not rest.startswith("//"):
            raise _refused(rest, "it must begin with nats://")
        try:
            parts = urlsplit(f"nats:{rest}")
        except ValueError as error:
            raise _refused(rest, str(error)) from None
        hosts = parts.netloc.split(",")
        for host in hosts:
            found = _HOST.fullmatch(host)
            if not found or not 0 < int(found[1]) < 1 << 16:
                shown = "one of its servers" if "@" in rest else f"server {host!r}"  # a password may hold any sign
                raise _refused(rest, f"{shown} is not host:port")
        stream = parts.path.removeprefix("/")
        if not _STREAM.fullmatch(stream):
            raise _refused(rest, f"stream {stream!r} must be 1 to 64 letters, digits, - or _")
        if parts.fragment:
            raise _refused(rest, "it has a fragment")
        return cls(tuple(f"nats://{host}" for host in hosts), stream, **_settings(rest, parts.query))


def _settings(rest: str, query: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "replicas" and value.isdecimal() and int(value) in REPLICAS:
            made[name] = int(value)
        elif name in ("window_s", "timeout_s") and (number := _positive(value)):
            made[name] = number
        elif name in ("replicas", "window_s", "timeout_s"):
            wanted = "1, 3 or 5" if name == "replicas" else "a number of seconds, 0.1 to 86400"
            raise _refused(rest, f"{name} is {value!r}, not {wanted}")
        else:
            raise _refused(rest, f"parameter {name!r} is none of replicas, timeout_s, window_s")
    return made


def _positive(value: str) -> float:
    number = float(value) if re.fullmatch(r"\d{1,6}(\.\d{1,6})?", value) else 0.0
    return number if 0.1 <= number <= 86_400 else 0.0


def _refused(rest: str, why: str) -> UrlError:
    shown = re.sub(r"(//)?.*@", r"\1...@", rest, flags=re.DOTALL)
    return UrlError(f"event log: {f'nats:{shown}'!r}: {why}")

"""The one table between our reactions and gRPC's status codes, read in both directions."""

import asyncio
from collections.abc import Iterable

import grpc

from serving.errors import (
    DeadlinePassedError,
    InvalidRequestError,
    NotOfferedError,
    OverloadedError,
    RefusalError,
    ServerFailedError,
    ServingError,
    UnknownVerticalError,
    UnreachableError,
)

PUSHBACK = "grpc-retry-pushback-ms"
INTERNAL_TEXT = "internal error"
"""All that a caller is told of a fault of ours; the rest is in the log."""

CODE_OF: dict[type[RefusalError], grpc.StatusCode] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownVerticalError: grpc.StatusCode.NOT_FOUND,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlinePassedError: grpc.StatusCode.DEADLINE_EXCEEDED,
    NotOfferedError: grpc.StatusCode.UNIMPLEMENTED,
}
_ERROR_OF = {code: error for error, code in CODE_OF.items()}


def number_of(code: grpc.StatusCode) -> int:
    """The code's number on the wire."""
    number: int = code.value[0]
    return number


def code_name(error: BaseException) -> str:
    """The status that a request ends with because of `error`, by name."""
    if isinstance(error, asyncio.CancelledError):
        return grpc.StatusCode.CANCELLED.name
    return (CODE_OF[type(error)] if isinstance(error, RefusalError) else grpc.StatusCode.INTERNAL).name


def pushback_of(error: RefusalError) -> int | None:
    """The advice on retrying that goes with a refusal, in milliseconds; negative: do not retry; None: no advice."""
    return error.pushback_ms if isinstance(error, OverloadedError) else None


def trailers_of(error: RefusalError) -> tuple[tuple[str, str], ...]:
    """A refusal's trailing metadata."""
    pushback_ms = pushback_of(error)
    return () if pushback_ms is None else ((PUSHBACK, str(pushback_ms)),)


def error_of(code: grpc.StatusCode, message: str, trailers: Iterable[tuple[str, str | bytes]]) -> ServingError:
    """What a failed call's status means to a client."""
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return OverloadedError(message, _pushback_in(trailers))
    if code is grpc.StatusCode.UNAVAILABLE:
        return UnreachableError(message)
    kind = _ERROR_OF.get(code)
    return kind(message) if kind else ServerFailedError(f"{code.name}: {message}")


def _pushback_in(trailers: Iterable[tuple[str, str | bytes]]) -> int | None:
    for key, value in trailers:
        if key == PUSHBACK:
            # What can't be read means: do not retry (gRFC A6).
            return int(value) if str(value).lstrip("-").isdecimal() else -1
    return None

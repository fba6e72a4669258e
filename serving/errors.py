"""One class per reaction.

Four families: what the caller is told (`RefusalError`), what a client meets besides (`CallError`), what the ladder
turns into a lesser tier (`BackendError`), and what keeps the server from starting (`StartError`). Anything else that is
raised is a fault of ours.
"""


class ServingError(Exception):
    """The root of everything that serving raises on purpose."""


class RefusalError(ServingError):
    """The request gets no ranking; the message is meant for the caller."""


class InvalidRequestError(RefusalError):
    """The request contradicts the vertical's contract; sending it again is pointless."""


class UnknownVerticalError(RefusalError):
    """This server doesn't serve the vertical."""


class OverloadedError(RefusalError):
    """There is no room for the request now.

    Attributes:
        pushback_ms: wait this long before trying again; negative: do not retry; None: no advice.
    """

    def __init__(self, message: str, pushback_ms: int | None = -1) -> None:
        super().__init__(message)
        self.pushback_ms = pushback_ms


class DeadlinePassedError(RefusalError):
    """The deadline was over before there was an answer."""


class NotOfferedError(RefusalError):
    """This server isn't configured for the call."""


class CallError(ServingError):
    """A client's call brought neither a ranking nor a refusal."""


class UnreachableError(CallError):
    """There is no server at the address, or it is going away; another one may answer."""


class ServerFailedError(CallError):
    """The server failed; its log says why."""


class BackendError(ServingError):
    """The model gave no usable scores; the prior answers instead."""


class LateError(BackendError):
    """The scores were not there in time."""


class BusyError(BackendError):
    """The backend lives but had no room: its queue is full, or the work's time ran out in it."""


class UnavailableError(BackendError):
    """The backend can't be reached, or may not be asked."""


class EjectedError(BackendError):
    """The backend lost its trust while the request waited for it here; it was never asked."""


class BadScoresError(BackendError):
    """The backend answered, but not with one finite probability per candidate and task."""


class StartError(ServingError):
    """The server can't begin to serve."""


class RepositoryError(StartError):
    """The model repository is not what `exfm-export` writes; the message names the file."""


class SchemaMismatchError(StartError):
    """The model that the backend has loaded was made for another schema."""

"""The distributed event log: a NATS JetStream stream, replicated over the cluster's nodes.

A record is a message of about 100 events. It is acknowledged when a majority of its replicas has it; a batch that was
sent twice is kept once (`Nats-Msg-Id`). A single node syncs to its disk every two minutes unless its configuration says
`sync_interval: always`, so a single node survives the death of the server but not a loss of power; three do.
"""

import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from itertools import takewhile
from typing import Any, TypeVar

from nats.aio.client import Client
from nats.errors import Error, MaxPayloadError
from nats.js.errors import APIError

from exfm.events.log import BEGIN, Lag, LogRefusedError, LogUnavailableError, Record
from exfm.events.nats_commits import Commits
from exfm.events.nats_loop import LoopThread
from exfm.events.nats_refused import TOO_LARGE, for_good
from exfm.events.nats_stream import Stream
from exfm.events.nats_url import NatsPlace
from exfm.events.wire import EventError

log = logging.getLogger(__name__)

T = TypeVar("T")
_RECONNECT_S = 0.1
_CLOSE_S = 1.0
_OLDEST = (2, 11)
"""Batched direct gets came with that version of the server."""
_SLOWER = 20
"""A scan of a whole topic may take so many times a call's timeout."""


class NatsLog:
    """An `EventLog` behind `nats:`; see `exfm.events.nats_url` for the rest of the URL.

    What is lost while a node is replaced is noticed by a call's timeout: then it is not known whether a record was
    added, and the same batch may be sent again. The object goes on by itself when the cluster does.

    Raises:
        UrlError: the URL is wrong.
        LogRefusedError: credentials, replicas, the account's limits, or another stream of that name or those subjects
            stand in the way.
        LogUnavailableError: no node answers.
    """

    def __init__(self, rest: str) -> None:
        self._place = NatsPlace.parse(rest)
        self._loop = LoopThread("exfm-nats")
        self._client = Client()
        self._opened = False
        try:
            self._stream, self._commits = self._call(self._open)
        except BaseException:
            self.close()
            raise
        self._opened = True

    def append(self, topic: str, payload: bytes, count: int, batch_id: bytes) -> bool:
        """See `EventLog`; a record above server's `max_payload` or stream's `max_msg_size` is an `EventError`."""
        try:
            return self._call(lambda: self._stream.append(topic, payload, count, batch_id))
        except MaxPayloadError as error:
            raise EventError(f"{len(payload)} bytes are more than the log's max_payload") from error
        except APIError as error:
            raise EventError(f"{len(payload)} bytes are more than the stream's max_msg_size") from error

    def read(self, topic: str, after: int, limit: int) -> list[Record]:
        return self._call(lambda: self._stream.read(topic, after, limit), _SLOWER)

    def end(self, topic: str) -> int:
        return self._call(lambda: self._stream.end(topic))

    def commit(self, consumer: str, topic: str, offset: int) -> None:
        self._call(lambda: self._commits.put(consumer, topic, offset))

    def committed(self, consumer: str, topic: str) -> int:
        return self._call(lambda: self._commits.get(consumer, topic))

    def lag(self, consumer: str, topic: str) -> Lag:
        return self.ahead(topic, self.committed(consumer, topic))

    def ahead(self, topic: str, after: int) -> Lag:
        return self._call(lambda: self._lag(topic, after), _SLOWER)

    def trim(self, topic: str, before_ms: int) -> int:
        return self._call(lambda: self._trim(topic, before_ms), _SLOWER)

    def close(self) -> None:
        if self._loop.closed:
            return
        with suppress(Error, OSError, TimeoutError):  # it is not connected now
            self._loop.call(self._client.close(), _CLOSE_S)
        self._loop.close()

    async def _open(self) -> tuple[Stream, Commits]:
        waits: dict[str, Any] = {"connect_timeout": self._place.timeout_s, "reconnect_time_wait": _RECONNECT_S}
        servers = list(self._place.servers)
        await self._client.connect(servers=servers, max_reconnect_attempts=-1, error_cb=self._noted, **waits)
        version = self._client.connected_server_version
        if (version.major, version.minor) < _OLDEST:
            raise LogUnavailableError(f"{self._place}: nats-server {version} is older than 2.11")
        stream = Stream(self._client, self._place)
        commits = Commits(self._client.jetstream(timeout=self._place.timeout_s), self._place.stream)
        await commits.make(await stream.make())
        return stream, commits

    async def _lag(self, topic: str, after: int) -> Lag:
        async with aclosing(self._stream.heads(topic, after)) as pages:
            heads = [head async for page in pages for head in page]
        return Lag(sum(head.count for head in heads), min((head.appended_ms for head in heads), default=0))

    async def _trim(self, topic: str, before_ms: int) -> int:
        """Some at a time, so that what is gone stays gone if it fails on the way; for about a call's timeout."""
        done, events = await self._commits.lowest(topic), 0
        if not done:
            return 0
        until_s = time.monotonic() + self._place.timeout_s
        async with aclosing(self._stream.heads(topic, BEGIN)) as pages:
            async for heads in pages:
                gone = list(takewhile(lambda head: head.offset <= done and head.appended_ms < before_ms, heads))
                if gone:
                    await self._stream.drop(topic, gone[-1].offset + 1)
                    events += sum(head.count for head in gone)
                if len(gone) < len(heads) or time.monotonic() > until_s:
                    break
        return events

    def _call(self, work: Callable[[], Coroutine[Any, Any, T]], times: int = 1) -> T:
        try:
            return self._loop.call(work(), self._place.timeout_s * times)
        except (MaxPayloadError, LogRefusedError):
            raise
        except (Error, OSError, TimeoutError, ValueError, KeyError) as error:
            if isinstance(error, APIError) and error.err_code == TOO_LARGE:
                raise
            if not self._opened and isinstance(error, Error) and for_good(error):
                said = error.description if isinstance(error, APIError) else str(error)
                raise LogRefusedError(f"event log: {self._place}: {said}") from error
            raise LogUnavailableError(f"{self._place}: {str(error) or type(error).__name__}") from error

    async def _noted(self, error: Exception) -> None:
        log.debug("nats: %s", error)
        if not self._opened and isinstance(error, Error) and for_good(error):
            raise error  # out of `connect`, which would try for ever


def check_place(rest: str) -> None:
    """`UrlError` if that is no place for a log, or its server says so; one that does not answer says nothing."""
    try:
        NatsLog(rest).close()
    except LogRefusedError:
        raise
    except LogUnavailableError as error:
        log.warning("event log: %s", error)

"""A JetStream stream as topics of records: what the event log is made of, on the event loop of its connection."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, Header, StorageType, StreamConfig
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from exfm.events.log import BEGIN, LogRefusedError, LogUnavailableError, Record
from exfm.events.nats_refused import unfit
from exfm.events.nats_url import NatsPlace

COUNT = "Exfm-Count"
_SEQUENCE, _BEFORE, _TIME = "Nats-Sequence", "Nats-Last-Sequence", "Nats-Time-Stamp"
_AT_ONCE_BYTES = 32 << 20
"""What one answer to a read may hold; more comes with the next."""
SCANNED = 256
"""Records whose headers are asked for at a time."""
_STALE_PAUSE_S = 0.02


@dataclass(frozen=True)
class Head:
    """A record without its payload."""

    offset: int
    count: int
    appended_ms: int


class Stream:
    """The operations; each may raise what the client library raises."""

    def __init__(self, client: Client, place: NatsPlace) -> None:
        self._client, self._place = client, place
        self._context: JetStreamContext = client.jetstream(timeout=place.timeout_s)
        self._replicas = place.replicas

    async def make(self) -> int:
        """Make the stream where it is missing; its replicas. `LogRefusedError` if there is one that doesn't fit."""
        place = self._place
        try:
            config = (await self._context.stream_info(place.stream)).config
        except NotFoundError:
            config = await self._add()
        self._replicas = config.num_replicas or 1
        if why := unfit(place, config):
            raise LogRefusedError(f"event log: {place}: {why}")
        return self._replicas

    async def _add(self) -> StreamConfig:
        wanted = StreamConfig(
            name=self._place.stream,
            subjects=[f"{self._place.stream}.*"],
            storage=StorageType.FILE,
            num_replicas=self._place.replicas or 1,
            duplicate_window=self._place.window_s,
            allow_direct=True,
        )
        return (await self._context.add_stream(wanted)).config

    async def append(self, topic: str, payload: bytes, count: int, batch_id: bytes) -> bool:
        headers = {Header.MSG_ID.value: f"{topic}.{batch_id.hex()}", COUNT: str(count)}
        said = await self._context.publish(self._subject(topic), payload, stream=self._place.stream, headers=headers)
        return not said.duplicate

    async def read(self, topic: str, after: int, limit: int) -> list[Record]:
        """Up to `limit` records; fewer only if the leader has no more, whichever replica they came from."""
        records: list[Record] = []
        while len(records) < limit:
            last = records[-1].offset if records else after
            got = [record async for record in self._batch(topic, last, limit - len(records))]
            records += got
            if not got and await self._nothing_above(topic, last):
                break
        return records

    async def _nothing_above(self, topic: str, offset: int) -> bool:
        """Whether the topic ends there. A follower may lag behind, so with replicas the leader is asked."""
        if self._replicas == 1 or await self.end(topic) <= offset:
            return True
        await asyncio.sleep(_STALE_PAUSE_S)
        return False

    async def end(self, topic: str) -> int:
        """The last offset of a topic, as the leader knows it."""
        try:
            found = await self._context.get_last_msg(self._place.stream, self._subject(topic))
        except NotFoundError:
            return BEGIN
        return found.seq or BEGIN

    async def _batch(self, topic: str, after: int, limit: int) -> AsyncIterator[Record]:
        """One answer to a batched direct get (NATS ADR-31), checked for holes."""
        wanted = {"seq": after + 1, "next_by_subj": self._subject(topic), "batch": limit, "max_bytes": _AT_ONCE_BYTES}
        inbox = self._client.new_inbox()
        answers = await self._client.subscribe(inbox)
        try:
            api = f"$JS.API.DIRECT.GET.{self._place.stream}"
            await self._client.publish(api, json.dumps(wanted).encode(), reply=inbox)
            before = 0
            while True:
                message = await answers.next_msg(self._place.timeout_s)
                headers = message.headers or {}
                status = headers.get("Status")
                if status and not _batch_ended(status, headers):
                    return
                if int(headers.get(_BEFORE, 0)) != before:
                    raise LogUnavailableError(f"{self._place.stream}: a record got lost on the way after {before}")
                if status:
                    return
                yield (record := _record(headers, message.data))
                before = record.offset
        finally:
            await answers.unsubscribe()

    async def heads(self, topic: str, after: int) -> AsyncGenerator[list[Head], None]:
        """All records above an offset, without their payloads, some at a time; close it if you leave it early."""
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=after + 1,
            ack_policy=AckPolicy.NONE,
            headers_only=True,
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=30.0,
        )
        source = await self._context.pull_subscribe(self._subject(topic), stream=self._place.stream, config=config)
        info = await source.consumer_info()
        try:
            left = info.num_pending or 0
            while left:
                messages = await source.fetch(min(SCANNED, left), timeout=self._place.timeout_s)
                yield [_head(message.headers or {}, message.metadata) for message in messages]
                for message in messages:  # somebody may drop records meanwhile, or add some
                    left = min(left - 1, message.metadata.num_pending)
        finally:
            await source.unsubscribe()
            await self._context.delete_consumer(self._place.stream, info.name)

    async def drop(self, topic: str, before: int) -> None:
        """Drop the topic's records below an offset."""
        await self._context.purge_stream(self._place.stream, seq=before, subject=self._subject(topic))

    def _subject(self, topic: str) -> str:
        return f"{self._place.stream}.{topic}"


def _batch_ended(status: str, headers: dict[str, str]) -> bool:
    """204 ends a batch, 404 says that there is none; anything else is a failure."""
    if status not in ("204", "404"):
        said = "nobody answers for the stream" if status == "503" else headers.get("Description", "")
        raise LogUnavailableError(f"JetStream said {status}: {said}")
    return status == "204"


def _record(headers: dict[str, str], payload: bytes) -> Record:
    time_ms = int(datetime.fromisoformat(headers[_TIME]).timestamp() * 1e3)
    return Record(int(headers[_SEQUENCE]), int(headers.get(COUNT, 0)), payload, time_ms)


def _head(headers: dict[str, str], metadata: Any) -> Head:
    time_ms = int(metadata.timestamp.timestamp() * 1e3)
    return Head(int(metadata.sequence.stream), int(headers.get(COUNT, 0)), time_ms)

"""How far each consumer is, in a JetStream key-value bucket beside the stream."""

from nats.js.client import JetStreamContext
from nats.js.errors import BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError
from nats.js.kv import KeyValue

from exfm.events.log import BEGIN

_TRIES = 16


class Commits:
    """Keys are `topic.consumer`, values decimal offsets."""

    def __init__(self, context: JetStreamContext, stream: str) -> None:
        self._context, self._bucket_name = context, f"{stream}-commits"
        self._bucket: KeyValue | None = None

    async def make(self, replicas: int) -> None:
        """Make the bucket where it is missing."""
        try:
            self._bucket = await self._context.key_value(self._bucket_name)
        except (BucketNotFoundError, NotFoundError):
            self._bucket = await self._context.create_key_value(bucket=self._bucket_name, replicas=replicas)

    async def get(self, consumer: str, topic: str) -> int:
        """The consumer's last commit, or `BEGIN`."""
        return (await self._entry(f"{topic}.{consumer}"))[0]

    async def put(self, consumer: str, topic: str, offset: int) -> None:
        """Note an offset, unless a later one is noted, whoever writes at the same time."""
        key = f"{topic}.{consumer}"
        for _ in range(_TRIES):
            there, revision = await self._entry(key)
            if there >= offset:
                return
            try:
                await self._kept.update(key, str(offset).encode(), last=revision)
            except KeyWrongLastSequenceError:
                continue
            return
        raise TimeoutError(f"the commit of {consumer} is always overtaken")

    async def lowest(self, topic: str) -> int:
        """The least commit of the topic's consumers; `BEGIN` if there is none."""
        prefix = f"$KV.{self._bucket_name}."
        info = await self._context.stream_info(f"KV_{self._bucket_name}", subjects_filter=f"{prefix}{topic}.*")
        keys = [subject.removeprefix(prefix) for subject in info.state.subjects or {}]
        return min([(await self._entry(key))[0] for key in keys], default=BEGIN)

    async def _entry(self, key: str) -> tuple[int, int]:
        """Offset and revision."""
        try:
            entry = await self._kept.get(key)
        except KeyNotFoundError:
            return BEGIN, 0
        return int(entry.value or b"0"), entry.revision or 0

    @property
    def _kept(self) -> KeyValue:
        if self._bucket is None:
            raise TimeoutError("the bucket of the commits was not opened")
        return self._bucket

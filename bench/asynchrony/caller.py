"""An ad server: asks for rankings, and tells later what became of the ad on top; notes what was acknowledged.

`python -m bench.asynchrony.caller PORT ACKS SEED RPS CODES`. It outlives the frontend, tells again what was not
acknowledged, and writes down with which codes rankings failed.
"""

import asyncio
import os
import signal
import sys
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from bench.asynchrony.frontend import CANDIDATES, blocks_at, world
from exfm.events.ids import impression_key
from serving.budget.clock import wall_ms
from serving.rpc.pb import ranking_pb2 as pb
from serving.rpc.servicer import SERVICE

POSITIVE = 0.4
"""Share of rankings with an outcome."""
SOON_S = 0.3
"""It comes within that."""
TRIES, PAUSE_S, LIMIT_S = 5, 0.2, 2.0
MESSAGES = 200
CHANNEL = (("grpc.max_reconnect_backoff_ms", 100), ("grpc.initial_reconnect_backoff_ms", 50))


class Caller:
    """One ad server."""

    def __init__(self, channel: grpc.aio.Channel, acks: Path, seed: int, rps: float, codes: Path) -> None:
        self._draw, self._rps = np.random.default_rng(seed), rps
        source = world()
        self._tasks = {each.name: each.tasks[0] for each in source.schema.verticals}
        self._messages = [self._message(source, row) for row in range(MESSAGES)]
        self._rank: Any = channel.unary_unary(f"/{SERVICE}/Rank", response_deserializer=pb.RankResponse.FromString)
        self._record: Any = channel.unary_unary(f"/{SERVICE}/RecordOutcomes")
        self._acks, self._codes = (os.open(each, os.O_WRONLY | os.O_APPEND | os.O_CREAT) for each in (acks, codes))

    def _message(self, source: Any, row: int) -> pb.RankRequest:
        name = source.schema.verticals[row % len(source.schema.verticals)].name
        ads = self._draw.choice(len(source.ads), CANDIDATES, replace=False)
        blocks = {each: block.tobytes() for each, block in blocks_at(source, name, row, ads).items()}
        sides = ("user", "context", "ad")
        user, context, ad = (pb.FeatureBlock(ids=blocks[f"{s}_ids"], numbers=blocks[f"{s}_numbers"]) for s in sides)
        keys = source.ads.key[ads].tolist()
        return pb.RankRequest(vertical=name, user=user, context=context, ads=ad, ad_ids=keys)

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop."""
        prefix = f"{os.getpid()}-{wall_ms()}"
        async with asyncio.TaskGroup() as group:
            for number in count():
                if stop.is_set():
                    return
                group.create_task(self._ask(number, f"{prefix}-{number}"))
                await asyncio.sleep(1 / self._rps)

    async def _ask(self, number: int, request_id: str) -> None:
        message = self._messages[number % MESSAGES]
        message.request_id = request_id
        payload, vertical = message.SerializeToString(), message.vertical
        happened, after_s = self._draw.random() < POSITIVE, float(self._draw.random()) * SOON_S
        try:
            answer = await self._rank(payload, timeout=LIMIT_S)
        except grpc.aio.AioRpcError as error:
            os.write(self._codes, f"{error.code().name}\n".encode())
            return
        if happened:
            await asyncio.sleep(after_s)
            await self._tell(vertical, request_id, answer.ad_ids[0])

    async def _tell(self, vertical: str, request_id: str, ad: int) -> None:
        task, now_ms = self._tasks[vertical], wall_ms()
        told = pb.Outcome(request_id=request_id, ad_id=ad, task=task, value=1.0, time_ms=now_ms, vertical=vertical)
        payload = pb.RecordOutcomesRequest(outcomes=[told]).SerializeToString()
        for _ in range(TRIES):
            try:
                await self._record(payload, timeout=LIMIT_S)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(PAUSE_S)
            else:
                os.write(self._acks, f"{impression_key(vertical, request_id, ad).hex()} {task} {now_ms}\n".encode())
                return


async def main(port: int, acks: Path, seed: int, rps: float, codes: Path) -> None:
    """Ask until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL) as channel:
        await Caller(channel, acks, seed, rps, codes).run(stop)


if __name__ == "__main__":
    _, port, acks, seed, rps, codes = sys.argv
    asyncio.run(main(int(port), Path(acks), int(seed), float(rps), Path(codes)))

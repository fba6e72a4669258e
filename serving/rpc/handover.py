"""Whether an answer was handed over, which gRPC knows and does not say.

A unary call's done callback runs alike for a caller that has its answer and for one that had gone before: the context
is not `cancelled()`, its `code()` is None, and the batch of operations that carried the answer fails unheard. That
batch is what the call's task waits for once the handler has returned, so it is asked itself.
"""

import asyncio
from collections.abc import Callable
from typing import Any

Told = Callable[[bool], None]


def when_handed_over(told: Told) -> None:
    """Have it told, once, whether the answer that the running handler returns has left.

    To be called last thing in a unary call's handler, which awaits nothing after it.

    Args:
        told: gets true if the answer's last byte is with the transport; false if the caller had cancelled, its
            deadline had passed, its connection was lost or the server was stopped.
    """
    asyncio.get_running_loop().call_soon(_follow, asyncio.current_task(), told)


def _follow(task: "asyncio.Task[Any] | None", told: Told) -> None:
    """By now the handler has returned, and its task waits for the batch; for nothing, if there is no such call.

    An interpreter whose tasks don't show what they wait for can't be asked; there every answer counts as delivered.
    """
    unknown = object()
    batch: Any = getattr(task, "_fut_waiter", unknown)
    if batch is None or batch is unknown:
        told(batch is unknown)
    else:
        batch.add_done_callback(lambda sent: told(not sent.cancelled() and sent.exception() is None))

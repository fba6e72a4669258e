"""Waiting for the Tritons to have the right models, before anything is served."""

import asyncio
import logging
import time
from collections.abc import Sequence

from serving.catalog import Catalog, Vertical
from serving.errors import UnavailableError
from serving.inference.endpoint import TritonEndpoint

log = logging.getLogger(__name__)

ASK_S = 1.0
"""How long a Triton may take to tell of a model, seconds."""
_AGAIN_S = 0.1
_TELL_S = 1.0


async def check_schemas(catalog: Catalog, endpoints: Sequence[TritonEndpoint], waiting: dict[str, str]) -> None:
    """Return once each vertical's model is on at least one Triton; those that lack it are vetted when they have it.

    Args:
        catalog: what is to be served.
        endpoints: one or more.
        waiting: filled with what each vertical waits for, by name; empty when done.

    Raises:
        SchemaMismatchError: a Triton that answered has a model for another schema.
    """
    addresses = ", ".join(endpoint.address for endpoint in endpoints)
    waiting.update(dict.fromkeys(catalog, f"Triton at {addresses} has not answered"))
    told_s = time.monotonic() - _TELL_S
    while waiting:
        asked = [_check(catalog[name], endpoints) for name in waiting]
        waiting.update(zip(tuple(waiting), await asyncio.gather(*asked), strict=True))
        for name in [name for name, why in waiting.items() if not why]:
            del waiting[name]
        if waiting and time.monotonic() - told_s >= _TELL_S:
            told_s = time.monotonic()
            log.info("waiting: %s", "; ".join(f"{name}: {why}" for name, why in waiting.items()))
        if waiting:
            await asyncio.sleep(_AGAIN_S)


async def _check(vertical: Vertical, endpoints: Sequence[TritonEndpoint]) -> str:
    """Why no Triton has the model; empty if one has."""
    found = await asyncio.gather(*(_ask(vertical, endpoint) for endpoint in endpoints))
    return "" if "" in found else "; ".join(found)


async def _ask(vertical: Vertical, endpoint: TritonEndpoint) -> str:
    try:
        await endpoint.check_schema(vertical, ASK_S)
    except UnavailableError as error:
        return str(error)
    return ""

import asyncio
from typing import Any

import pytest

from serving.catalog import Catalog, Vertical
from serving.errors import SchemaMismatchError, UnavailableError
from serving.inference.models import check_schemas


class Endpoint:
    """Has the models that it is told of."""

    def __init__(self, address: str, *models: str, other: str = "") -> None:
        self.address = address
        self.models = set(models)
        self.other = other

    async def check_schema(self, vertical: Vertical, timeout_s: float) -> None:
        await asyncio.sleep(min(timeout_s, 0.001))
        if vertical.name == self.other:
            raise SchemaMismatchError("another one")
        if vertical.name not in self.models:
            raise UnavailableError(f"{self.address} lacks it")


async def _waits(catalog: Catalog, waiting: dict[str, str], *endpoints: Any) -> bool:
    task = asyncio.create_task(check_schemas(catalog, endpoints, waiting))
    await asyncio.wait((task,), timeout=0.3)
    task.cancel()
    await asyncio.wait((task,))
    return task.cancelled()


async def test_each_model_is_needed_on_one_of_them(catalog: Catalog) -> None:
    waiting: dict[str, str] = {}
    assert not await _waits(catalog, waiting, Endpoint("a", "feed_click"), Endpoint("b", "feed_long_view"))
    assert waiting == {}


async def test_a_model_that_nobody_has_is_waited_for_by_name(catalog: Catalog) -> None:
    waiting: dict[str, str] = {}
    assert await _waits(catalog, waiting, Endpoint("a", "feed_click"), Endpoint("b"))
    assert waiting == {"feed_long_view": "a lacks it; b lacks it"}


async def test_a_model_for_another_schema_is_an_error_wherever_it_is(catalog: Catalog) -> None:
    endpoints: Any = (Endpoint("a", *catalog), Endpoint("b", other="feed_click"))
    with pytest.raises(SchemaMismatchError):
        await check_schemas(catalog, endpoints, {})

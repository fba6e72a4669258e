from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exfm.data.examples import BLOCK_NAMES, Catalogue, Examples, concat, project
from exfm.features.schema import SIDES, Feature, Schema, Vertical
from exfm.features.signature import blocks_of

FEATURES = (
    Feature("u1", "user", "id", buckets=5),
    Feature("u2", "user", "number"),
    Feature("c1", "context", "id", buckets=5),
    Feature("a1", "ad", "id", buckets=5),
    Feature("a2", "ad", "number"),
    Feature("a3", "ad", "id", buckets=5),
    Feature("a4", "ad", "number"),
)
SCHEMA = Schema("s", FEATURES, (Vertical("all", ("click",)), Vertical("some", ("click",), features=("u2", "a3", "a4"))))


def make_examples(rows: int) -> Examples:
    blocks: dict[str, NDArray[Any]] = {}
    for side in SIDES:
        for block in blocks_of(SCHEMA, side):
            cells = np.arange(rows)[:, None] * 10 + np.arange(block.width)
            blocks[block.name] = cells.astype(block.dtype)
    line = np.arange(rows)
    values = line.astype(np.float32)
    return Examples(
        line, line + 100, line + 200, blocks, {"click": values % 2}, values, {"click": values}, {"click": values}
    )


def test_take_slice_and_concat_agree() -> None:
    whole = make_examples(7)
    for part in (
        whole.slice(2, 5),
        whole.take(np.array([2, 3, 4])),
        whole.take((whole.time_ms > 1) & (whole.time_ms < 5)),
    ):
        assert len(part) == 3
        assert part.user.tolist() == [102, 103, 104]
        assert part.blocks["ad_ids"].tolist() == [[20, 21], [30, 31], [40, 41]]
        assert part.labels["click"].tolist() == [0, 1, 0]
        assert part.delay_s["click"].tolist() == [2, 3, 4]
    again = concat([whole.slice(0, 3), whole.slice(3, 7)])
    for name in BLOCK_NAMES:
        np.testing.assert_array_equal(again.blocks[name], whole.blocks[name])
    np.testing.assert_array_equal(again.truth["click"], whole.truth["click"])


def test_time_order_is_stable() -> None:
    whole = make_examples(4)
    assert whole.in_time_order() is whole
    mixed = replace(whole, time_ms=np.array([5, 2, 5, 2]))
    assert mixed.in_time_order().user.tolist() == [101, 103, 100, 102]


def test_slices_are_views() -> None:
    whole = make_examples(4)
    assert np.shares_memory(whole.slice(1, 3).blocks["ad_ids"], whole.blocks["ad_ids"])


def test_project_picks_the_verticals_columns() -> None:
    sub = SCHEMA.for_vertical("some")
    picked = make_examples(2).project(SCHEMA, sub)
    assert {name: block.shape[1] for name, block in picked.blocks.items()} == {
        "user_ids": 0, "user_numbers": 1, "context_ids": 0, "context_numbers": 0, "ad_ids": 1, "ad_numbers": 1,
    }  # fmt: skip
    assert picked.blocks["ad_ids"][:, 0].tolist() == [1, 11]
    assert picked.blocks["ad_numbers"][:, 0].tolist() == [1, 11]
    assert picked.blocks["ad_ids"].dtype == np.int64


def test_project_keeps_to_the_given_blocks() -> None:
    ads = {name: block for name, block in make_examples(2).blocks.items() if name.startswith("ad_")}
    assert set(project(ads, SCHEMA, SCHEMA.for_vertical("some"))) == {"ad_ids", "ad_numbers"}
    with pytest.raises(KeyError, match="zz"):
        project(ads, SCHEMA, Schema("t", (*FEATURES, Feature("zz", "ad", "id", buckets=2)), SCHEMA.verticals))


def test_lengths_must_agree() -> None:
    whole = make_examples(3)
    with pytest.raises(ValueError, match="labels click: 2 rows where time_ms has 3"):
        Examples(whole.time_ms, whole.user, whole.ad, whole.blocks, {"click": whole.bid[:2]}, whole.bid)
    with pytest.raises(ValueError, match="blocks must be user_ids"):
        Examples(whole.time_ms, whole.user, whole.ad, {}, {}, whole.bid)


def test_catalogue_keeps_the_last_row_of_a_key() -> None:
    catalogue = Catalogue.of(np.array([5, 3, 5, 9]), {"ad_ids": np.array([[1], [2], [3], [4]])})
    assert len(catalogue) == 3
    assert catalogue.key.tolist() == [3, 5, 9]
    assert catalogue.blocks["ad_ids"].tolist() == [[2], [3], [4]]


def test_catalogue_projects_like_examples() -> None:
    examples = make_examples(3)
    ads = Catalogue.of(examples.ad, {name: examples.blocks[name] for name in ("ad_ids", "ad_numbers")})
    sub = SCHEMA.for_vertical("some")
    projected = ads.project(SCHEMA, sub)
    np.testing.assert_array_equal(projected.blocks["ad_ids"], examples.project(SCHEMA, sub).blocks["ad_ids"])
    assert projected.key.tolist() == ads.key.tolist()

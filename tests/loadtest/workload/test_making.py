from pathlib import Path

import numpy as np
import pytest

from exfm.data.simulator import Scale, simulate
from exfm.data.source import Source
from exfm.features.schema import Schema
from exfm.features.signature import blocks_of
from loadtest.workload.asked import WorkloadError
from loadtest.workload.making import from_schema, from_source
from loadtest.workload.sizes import SizesError, fixed, sizes_of
from serving.rpc.pb import ranking_pb2 as pb


@pytest.fixture(scope="module")
def source() -> Source:
    return Source("simulator", *simulate(0, Scale(rows=2000, users=100, ads=60)))


def test_random_requests_have_the_blocks_and_sizes_of_the_schema(tiny_schema: Schema) -> None:
    made = from_schema(tiny_schema, "feed_long_view", sizes_of("30"), seed=3, each=5)
    own = tiny_schema.for_vertical("feed_long_view")
    for asked in made.requests:
        request = pb.RankRequest.FromString(asked.message)
        assert (len(request.ad_ids), len(request.bids), request.vertical) == (30, 30, "feed_long_view")
        for side, rows in (("user", 1), ("context", 1), ("ads", 30)):
            ids, numbers = blocks_of(own, "ad" if side == "ads" else side)  # type: ignore[arg-type]
            block = getattr(request, side)
            assert len(block.ids) == rows * ids.row_bytes
            assert len(block.numbers) == rows * numbers.row_bytes
        assert asked.tasks == ("long_view",)


def test_the_sizes_come_in_their_proportions_and_the_seed_decides(tiny_schema: Schema) -> None:
    sizes = sizes_of("dlrm-v2")
    with pytest.raises(SizesError, match="feed_click takes 500"):
        from_schema(tiny_schema, "feed_click", sizes, seed=0)
    one, two, other = (from_schema(tiny_schema, "feed_click", fixed(9), seed=seed, each=3) for seed in (1, 1, 2))
    assert one.digest == two.digest != other.digest
    assert one.at(3).message == one.at(0).message


def test_requests_of_a_log_hold_its_rows_and_its_ads(source: Source) -> None:
    vertical = source.schema.verticals[0].name
    made = from_source(source, source.schema, vertical, fixed(40), seed=0, each=6)
    own = source.schema.for_vertical(vertical)
    width = blocks_of(own, "ad")[0].width
    known = {tuple(row) for row in source.ads.project(source.schema, own).blocks["ad_ids"].tolist()}
    for asked in made.requests:
        request = pb.RankRequest.FromString(asked.message)
        assert np.isin(request.ad_ids, source.ads.key).all()
        rows = np.frombuffer(request.ads.ids, "<i8").reshape(-1, width)
        assert {tuple(row) for row in rows.tolist()} <= known


def test_a_small_catalogue_is_filled_with_copies_under_other_keys(source: Source) -> None:
    vertical = source.schema.verticals[0].name
    made = from_source(source, source.schema, vertical, fixed(90), seed=0, each=1)
    assert len(np.unique(made.at(0).ads)) == 90


def test_another_vertical_or_a_log_without_its_features_is_refused(source: Source, tiny_schema: Schema) -> None:
    with pytest.raises(WorkloadError, match="no vertical 'nope'; it has: feed_click, feed_long_view"):
        from_schema(tiny_schema, "nope", fixed(1), seed=0)
    with pytest.raises(WorkloadError, match="log 'simulator' lacks feature"):
        from_source(source, tiny_schema, "feed_click", fixed(1), seed=0)


def test_loadtest_itself_imports_nothing() -> None:
    import loadtest

    assert Path(str(loadtest.__file__)).read_text() == ""

from pathlib import Path

import numpy as np
import pytest

from exfm.data import kuairand, simulator
from exfm.features.schema import Schema, Vertical
from loadtest.workload.sizes import NAMED, SizesError, sizes_of


def test_the_benchmarks_sizes() -> None:
    v2 = sizes_of("dlrm-v2")
    assert len(v2.quantiles) == 20
    assert v2.mean == 270
    assert (v2.distinct[0], v2.distinct[-1]) == (100, 700)
    drawn = v2.draw(20_000, 1)
    assert drawn.mean() == pytest.approx(270, rel=0.02)
    assert np.mean(drawn == 200) == pytest.approx(0.6, abs=0.02)
    assert sizes_of("dlrm-v3").quantiles == (2048,)
    assert sizes_of("17").draw(3, 0).tolist() == [17, 17, 17]


@pytest.mark.parametrize("text", ["0", "-3", "many", "", "1e3", "²"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SizesError, match="candidates"):
        sizes_of(text)


def test_a_vertical_that_takes_fewer_is_named() -> None:
    with pytest.raises(SizesError, match=r"2048 in one request, but feed takes 2047"):
        sizes_of("dlrm-v3").within(2047, "feed")
    assert sizes_of("dlrm-v2").within(700, "feed").mean == 270


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("file", [kuairand.SCHEMA_FILE, simulator.SCHEMA_FILE], ids=lambda file: file.stem)
def test_every_vertical_that_is_shipped_takes_the_benchmarks_sizes(file: Path, name: str) -> None:
    unsaid = Vertical("unsaid", ("click",))
    for vertical in (*Schema.load(file).verticals, unsaid):
        assert sizes_of(name).within(vertical.max_candidates, vertical.name).name == name

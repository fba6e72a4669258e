from pathlib import Path

import numpy as np
import pytest

from exfm.data.errors import DataError
from exfm.data.source import ENVIRONMENT, open_source, resolve_data_dir


def test_the_command_line_goes_before_the_environment(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert resolve_data_dir(str(tmp_path / "a"), {ENVIRONMENT: str(tmp_path / "b")}) == tmp_path / "a"
    assert resolve_data_dir(None, {ENVIRONMENT: str(tmp_path / "b")}) == tmp_path / "b"


@pytest.mark.parametrize("environ", [{}, {ENVIRONMENT: ""}])
def test_without_a_folder_there_is_the_simulator(environ: dict[str, str]) -> None:
    assert resolve_data_dir(None, environ) is None
    source = open_source(None, seed=2)
    assert source.name == source.schema.name == "simulator"
    assert not np.array_equal(source.examples.user, open_source(None, seed=3).examples.user)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: given by --data, but there is no such directory"):
        resolve_data_dir(str(tmp_path / "nowhere"), {})
    with pytest.raises(DataError, match=f"given by {ENVIRONMENT}, but"):
        resolve_data_dir(None, {ENVIRONMENT: str(tmp_path / "nowhere")})


def test_a_folder_with_nothing_known_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError) as caught:
        open_source(tmp_path)
    for expected in (str(tmp_path), "schema.toml", "log*.csv", "exposures.parquet", "log_standard_*_pure.csv"):
        assert expected in str(caught.value)


def test_kuairand_keeps_its_zone(kuairand_parquet: Path) -> None:
    source = open_source(kuairand_parquet)
    assert (source.name, source.utc_offset_h) == ("kuairand_pure", 8.0)
    assert source.days[source.last_day] == source.days[-1]
    assert source.days[source.last_day - 1] < source.days[-1]

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from exfm.data.errors import DataError
from exfm.data.examples import Examples
from exfm.data.kuairand import EXTRA_TASKS, SCHEMA_FILE, WATCHED_SHARE, find_layout, read_kuairand
from exfm.data.source import open_source
from exfm.features.encoding import MISSING, Encoder
from exfm.features.schema import SIDES, Schema
from exfm.features.signature import blocks_of

LEFT_OUT = {"onehot_feat3", "onehot_feat7", "onehot_feat8", "server_width", "server_height", "music_id"}


def read(folder: Path) -> Examples:
    layout = find_layout(folder)
    assert layout is not None
    return read_kuairand(layout)[1]


def column_of(schema: Schema, examples: Examples, name: str) -> np.ndarray[Any, Any]:
    for side in SIDES:
        for block in blocks_of(schema, side):
            for index, feature in enumerate(block.features):
                if feature.name == name:
                    return examples.blocks[block.name][:, index]
    raise KeyError(name)


def assert_same(left: Examples, right: Examples) -> None:
    for name, value in vars(left).items():
        other = getattr(right, name)
        pairs = [(value, other)] if not isinstance(value, dict) else [(value[key], other[key]) for key in value]
        for a, b in pairs:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=name)


def test_schema_gives_students_less_than_the_teacher() -> None:
    schema = Schema.load(SCHEMA_FILE)
    assert [(v.name, v.tasks, v.budget_ms, v.max_candidates) for v in schema.verticals] == [
        ("feed_click", ("is_click",), 25.0, 2048),
        ("feed_long_view", ("long_view",), 25.0, 2048),
    ]
    everything = {feature.name for feature in schema.features}
    for vertical in schema.verticals:
        assert everything - set(vertical.features) == LEFT_OUT
    buckets = {feature.name: feature.buckets for feature in schema.features if feature.kind == "id"}
    assert buckets["user_id"] == 2**18
    assert {buckets[name] for name in ("video_id", "author_id", "music_id")} == {2**17}


def test_no_outcome_is_an_input() -> None:
    outcomes = {"is_click", "long_view", "play_time_ms", "profile_stay_time", "comment_stay_time", *EXTRA_TASKS}
    assert not outcomes & {feature.source for feature in Schema.load(SCHEMA_FILE).features}


def test_both_layouts_give_the_same(kuairand_parquet: Path, kuairand_csv: Path) -> None:
    left, right = open_source(kuairand_parquet), open_source(kuairand_csv)
    assert_same(left.examples, right.examples)
    for side in ("ads", "users"):
        one, other = getattr(left, side), getattr(right, side)
        np.testing.assert_array_equal(one.key, other.key)
        for name, block in one.blocks.items():
            np.testing.assert_array_equal(block, other.blocks[name])


def test_joins_users_and_videos(kuairand_tables: dict[str, pa.Table], kuairand_parquet: Path) -> None:
    source = open_source(kuairand_parquet)
    examples = source.examples
    log, users, videos = (kuairand_tables[name].to_pylist() for name in ("exposures", "users", "videos"))
    user_of, video_of = ({row[key]: row for row in rows} for key, rows in (("user_id", users), ("video_id", videos)))
    names = {"onehot_feat4": user_of, "register_days": user_of, "music_type": video_of, "author_id": video_of}
    for name, rows in names.items():
        key = "user_id" if rows is user_of else "video_id"
        expected = [MISSING if rows[row[key]][name] is None else rows[row[key]][name] for row in log]
        assert column_of(source.schema, examples, name).tolist() == expected
    durations = [video_of[row["video_id"]]["video_duration"] or 0.0 for row in log]
    assert column_of(source.schema, examples, "duration_ms").tolist() == durations
    assert examples.user.tolist() == [row["user_id"] for row in log]
    assert examples.labels["is_like"].tolist() == [row["is_like"] for row in log]
    assert set(examples.bid.tolist()) == {1.0}


def test_derives_hour_aspect_ratio_and_watched_share(
    kuairand_tables: dict[str, pa.Table], kuairand_parquet: Path
) -> None:
    source = open_source(kuairand_parquet)
    log = kuairand_tables["exposures"].to_pylist()
    hours = [row["time_ms"] // 3_600_000 % 24 for row in log]
    assert column_of(source.schema, source.examples, "hour").tolist() == [(hour + 8) % 24 for hour in hours]
    videos = {row["video_id"]: row for row in kuairand_tables["videos"].to_pylist()}
    ratios = [videos[row["video_id"]]["server_width"] / videos[row["video_id"]]["server_height"] for row in log]
    np.testing.assert_allclose(column_of(source.schema, source.examples, "aspect_ratio"), ratios, rtol=1e-6)
    shares = [min(2, row["play_time_ms"] / max(row["duration_ms"], 1000)) for row in log]
    np.testing.assert_allclose(source.examples.signals[WATCHED_SHARE], shares, rtol=1e-6)


def test_every_known_outcome_is_a_label_everywhere(kuairand_parquet: Path) -> None:
    labels = read(kuairand_parquet).labels
    assert list(labels) == ["is_click", "long_view", *EXTRA_TASKS]
    assert all(set(label.tolist()) == {0.0, 1.0} for label in labels.values())


def test_values_stand_in_the_vocabularies(kuairand_parquet: Path) -> None:
    source = open_source(kuairand_parquet)
    encoder = Encoder(source.schema)
    for side in SIDES:
        blocks = source.examples.blocks
        assert encoder.encode(side, blocks[f"{side}_ids"], blocks[f"{side}_numbers"]).unknown == 0


def test_days_are_the_apps(kuairand_parquet: Path) -> None:
    source = open_source(kuairand_parquet)
    midnight = 1_650_816_000_000 + 2 * 86_400_000
    assert source.last_day == np.searchsorted(source.examples.time_ms, midnight)
    assert len(np.unique(source.days)) == 3


@pytest.mark.parametrize("inside", ["", "data", "kuairand_pure", "KuaiRand-Pure/data"])
def test_found_in_the_usual_subfolders(inside: str, kuairand_parquet: Path, tmp_path: Path) -> None:
    folder = tmp_path / inside
    folder.parent.mkdir(parents=True, exist_ok=True)
    if inside:
        folder.symlink_to(kuairand_parquet)
    layout = find_layout(tmp_path if inside else kuairand_parquet)
    assert layout is not None
    assert [path.name for path in (*layout.logs, layout.users)] == ["exposures.parquet", "users.parquet"]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "users",
            lambda t: t.slice(3),
            r"exposures.parquet, column 'user_id', row \d+: \d does not stand in the table",
        ),
        ("videos", lambda t: t.drop_columns("tag"), "videos.parquet, column 'tag': the file has no such column"),
        ("exposures", lambda t: t.drop_columns("is_hate"), "exposures.parquet, column 'is_hate': the file has no such"),
        ("users", lambda t: t.slice(0, 0), "users.parquet: the table holds no rows"),
        ("exposures", lambda t: t.slice(0, 0), "the log holds no rows"),
    ],
)
def test_bad_tables_are_named(file: str, change: Any, message: str, write_kuairand: Any, tmp_path: Path) -> None:
    write_kuairand(tmp_path, {file: change})
    with pytest.raises(DataError, match=message):
        open_source(tmp_path)


def test_a_missing_table_is_named(write_kuairand: Any, tmp_path: Path) -> None:
    write_kuairand(tmp_path, {})
    (tmp_path / "users.parquet").unlink()
    with pytest.raises(DataError, match=r"users\.parquet: cannot be read"):
        open_source(tmp_path)


def test_the_real_data(real_kuairand: Path) -> None:
    source = open_source(real_kuairand)
    examples = source.examples
    assert (len(examples), len(source.users), len(source.ads)) == (91_805, 27_285, 7_583)
    assert round(float(examples.labels["is_click"].mean()), 3) == 0.448
    assert round(float(examples.labels["long_view"].mean()), 3) == 0.315
    assert 20_000 < len(examples) - source.last_day < 21_000
    encoder = Encoder(source.schema)
    for side in SIDES:
        encoded = encoder.encode(side, examples.blocks[f"{side}_ids"], examples.blocks[f"{side}_numbers"])
        assert encoded.unknown == 0

import io
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from exfm.features.prior_file import NAME, PriorFile, PriorFileError, pack, read_prior, unpack, write_prior

PRIOR = PriorFile(
    vertical="feed",
    tasks=("click", "like"),
    ad=np.array([3, 5], np.int64),
    probability=np.array([[0.5, 0.25], [0.125, 1.0]], np.float32),
    default=np.array([0.5, 0.0], np.float32),
    version=4,
    learned_until_ms=1_700_000_000_000,
    written_ms=1_700_000_100_000,
)


def _same(one: PriorFile, other: PriorFile) -> bool:
    return all(np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(PriorFile))


@given(
    npst.arrays(np.int64, st.integers(0, 20)),
    st.integers(1, 3),
    st.text(max_size=5),
    st.lists(st.text(max_size=5), max_size=3),
    st.integers(0, 2**70),
)
def test_what_was_packed_is_unpacked(
    ads: "np.ndarray[tuple[int], np.dtype[np.int64]]", tasks: int, vertical: str, names: list[str], version: int
) -> None:
    probability = np.full((len(ads), tasks), 0.5, np.float32)
    made = replace(PRIOR, ad=ads, probability=probability, vertical=vertical, tasks=tuple(names), version=version)
    assert _same(unpack(pack(made)), made)


@given(st.binary(max_size=400))
def test_junk_is_refused(data: bytes) -> None:
    with pytest.raises(PriorFileError):
        unpack(data)


@given(st.integers(0, len(pack(PRIOR)) - 1))
def test_a_torn_file_is_refused(length: int) -> None:
    with pytest.raises(PriorFileError):
        unpack(pack(PRIOR)[:length])


@given(st.integers(0, len(pack(PRIOR)) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_says_the_same(place: int, change: int) -> None:
    data = bytearray(pack(PRIOR))
    data[place] ^= change
    try:
        found = unpack(bytes(data))
    except PriorFileError:
        return
    assert _same(found, PRIOR)  # a byte that only zip's own book-keeping knows


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ad": np.array([3, 5], np.int32)}, "ad is int32"),
        ({"probability": np.ones(2, np.float32)}, r"probability is float32 \(2,\), not float32 in 2 dimensions"),
        ({"default": np.ones(2)}, "default is float64"),
        ({"version": "4"}, "version is '4'"),
        ({"written_ms": 1.5}, "written_ms is 1.5"),
    ],
)
def test_what_is_whole_but_of_another_kind_is_refused_by_name(change: dict[str, object], says: str) -> None:
    with pytest.raises(PriorFileError, match=says):
        unpack(pack(replace(PRIOR, **change)))  # type: ignore[arg-type]


def test_a_file_of_other_arrays_is_refused() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, ad=PRIOR.ad)
    with pytest.raises(PriorFileError, match="not a prior"):
        unpack(buffer.getvalue())


def test_writing_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    for version in (1, 2):
        write_prior(tmp_path / NAME, replace(PRIOR, version=version))
    assert read_prior(tmp_path / NAME).version == 2
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PriorFileError, match=r"prior\.npz: "):
        read_prior(tmp_path / NAME)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_prior(tmp_path / NAME, PRIOR)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_prior(tmp_path / NAME, replace(PRIOR, version=9))
    assert read_prior(tmp_path / NAME).version == PRIOR.version
    assert [path.name for path in tmp_path.iterdir()] == [NAME]

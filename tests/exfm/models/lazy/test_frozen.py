"""A frozen table: what it was, whatever the table learns, commits and removes afterwards."""

import errno
from pathlib import Path

import numpy as np
import pytest

from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.form import ReadTable, TableForm
from exfm.models.lazy.frozen import FrozenTable, freeze, frozen_at, hand_on, remove_frozen
from exfm.models.lazy.table import LazyTable, remove_table

FORM = TableForm(rows=500, dimension=4, tasks=1)


def learn(table: LazyTable, seed: int) -> None:
    draw = np.random.default_rng(seed)
    rows = draw.permutation(FORM.rows)[:40]
    table.learn(rows, draw.standard_normal((40, 5), np.float32), draw.random((40, 2), np.float32))


def content(table: ReadTable) -> list[bytes]:
    return [np.ascontiguousarray(each).tobytes() for each in table.read(np.arange(FORM.rows)[::-1])]


def test_it_stays_what_it_was(tmp_path: Path) -> None:
    table, kept = LazyTable(tmp_path / "work", FORM), []
    for number in range(18):
        learn(table, number)
        table.commit()
        kept.append((freeze(table, tmp_path), content(table)))
    learn(table, 18)  # not committed
    assert len({digest for digest, _ in kept}) == 18
    for digest, before in kept:
        assert content(FrozenTable(frozen_at(tmp_path, digest))) == before  # the table is still open, and has moved on
    table.close()
    remove_table(tmp_path / "work")
    assert not (tmp_path / "work").exists()
    for digest, before in kept:
        assert content(FrozenTable(frozen_at(tmp_path, digest))) == before
        remove_frozen(tmp_path, digest)
    assert not any(tmp_path.iterdir())


def test_it_takes_no_room_of_its_own(tmp_path: Path) -> None:
    table = LazyTable(tmp_path / "work", FORM)
    learn(table, 0)
    table.commit()
    place = frozen_at(tmp_path, freeze(table, tmp_path))
    assert next(place.rglob("commit-*")).samefile(next((tmp_path / "work").glob("commit-*")))
    table.close()


def test_between_file_systems_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path, __: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    table = LazyTable(tmp_path / "work", FORM)
    learn(table, 0)
    table.commit()
    digest = freeze(table, tmp_path)
    monkeypatch.setattr(Path, "hardlink_to", refused)
    hand_on(tmp_path, tmp_path / "elsewhere", digest)
    copied = frozen_at(tmp_path / "elsewhere", digest)
    assert not next(copied.rglob("commit-*")).samefile(next((tmp_path / "work").glob("commit-*")))
    assert content(FrozenTable(copied)) == content(table)
    table.close()


def test_a_cut_or_foreign_one_is_refused(tmp_path: Path) -> None:
    table = LazyTable(tmp_path / "work", FORM)
    learn(table, 0)
    table.commit()
    digest = freeze(table, tmp_path)
    table.close()
    place = frozen_at(tmp_path, digest)
    with pytest.raises(LazyTableError, match="rows must be 0 to 499"):
        FrozenTable(place).read(np.array([500]))
    commit = next(place.rglob("commit-*"))
    whole = commit.read_bytes()
    commit.unlink()
    with pytest.raises(LazyTableError, match="another one's, or damaged"):
        frozen_at(tmp_path, digest)
    commit.write_bytes(whole[:-1])
    with pytest.raises(LazyTableError, match="the commit is damaged"):
        FrozenTable(frozen_at(tmp_path, digest))
    with pytest.raises(LazyTableError, match=r"the table was not kept: .* the commit is damaged"):
        hand_on(tmp_path, tmp_path / "elsewhere", digest)
    assert not list((tmp_path / "elsewhere" / "tables").iterdir())

import os
import signal
import stat
from pathlib import Path

import pytest

from exporter.durable import make_folder, sync_tree, try_lock, write_durably


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    write_durably(path, b"old")
    write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.pbtxt"
    write_durably(path, b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_every_file_and_folder_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    synced: list[Path] = []
    monkeypatch.setattr("exporter.durable.sync", synced.append)
    sync_tree(tmp_path)
    assert synced[-1] == tmp_path
    assert set(synced) == {tmp_path, tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "file"}


def test_a_lock_that_is_held_is_not_given_twice(tmp_path: Path) -> None:
    first = try_lock(tmp_path)
    assert first is not None
    assert try_lock(tmp_path) is None
    os.close(first)
    second = try_lock(tmp_path)
    assert second is not None
    os.close(second)


def test_folders_are_made_for_all_whatever_the_umask(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o700)
    before = os.umask(0o077)
    try:
        make_folder(tmp_path / "there" / "a" / "b")
        make_folder(tmp_path / "there")
    finally:
        os.umask(before)
    folders = [tmp_path / "there" / "a" / "b", tmp_path / "there" / "a", tmp_path / "there"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in folders] == [0o755, 0o755, 0o700]
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file" / "below")


def test_a_folder_is_for_all_from_the_first_moment(tmp_path: Path) -> None:
    """The process is killed between making it and whatever comes next."""
    child = os.fork()
    if not child:
        os.umask(0o077)
        Path.chmod = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
        try:
            make_folder(tmp_path / "repository")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert stat.S_IMODE((tmp_path / "repository").stat().st_mode) == 0o755


def test_the_umask_is_what_it_was(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        make_folder(tmp_path / "a" / "b")
        (tmp_path / "file").touch()
        with pytest.raises(FileExistsError):
            make_folder(tmp_path / "file")
    finally:
        assert os.umask(before) == 0o027


def test_what_is_synced_is_counted(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(bytes(7))
    counted: list[int] = []
    sync_tree(tmp_path, counted.append)
    assert sum(counted) == 7

from collections.abc import Callable
from pathlib import Path

from exporter.tree import everything_in, size_of


def test_all_that_lies_there_is_seen_and_no_link_followed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(bytes(5))
    (tmp_path / "a" / "link").symlink_to("b/file")
    (tmp_path / "folder").symlink_to("a")
    found = list(everything_in(tmp_path))
    assert {path.relative_to(tmp_path).as_posix() for path in found} == {"a", "a/b", "a/b/file", "a/link", "folder"}
    assert size_of(found) == 5


def test_a_folder_that_may_not_be_listed_is_an_error(
    tmp_path: Path, as_nobody: Callable[[Callable[[], object], type[Exception]], str]
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b").chmod(0)
    said = as_nobody(lambda: list(everything_in(tmp_path)), PermissionError)
    (tmp_path / "a" / "b").chmod(0o700)
    assert str(tmp_path / "a" / "b") in said

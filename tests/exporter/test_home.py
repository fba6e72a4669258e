from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ExportRefusedError, VersionError
from exporter.home import find_home, high_water, homes_in, next_version, parse_config, served_version, versions_in


def test_versions_are_plain_positive_numbers(tmp_path: Path) -> None:
    for name in ("2", "10", "notes", "03", "0", "²"):
        (tmp_path / name).mkdir()
    (tmp_path / "7").touch()
    assert versions_in(tmp_path) == [2, 10]
    assert versions_in(tmp_path / "missing") == []


def test_the_next_number_is_above_the_mark_and_what_is_there(tmp_path: Path) -> None:
    assert next_version(tmp_path) == 1
    (tmp_path / "4").mkdir()
    assert next_version(tmp_path) == 5
    (tmp_path / ".last_version").write_text("9\n")
    assert (high_water(tmp_path), next_version(tmp_path)) == (9, 10)


@pytest.mark.parametrize("content", [b"", b"-3", b"1e9", b"\xff\xff", b"9" * 40])
def test_a_broken_mark_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".last_version").write_bytes(content)
    with pytest.raises(VersionError, match=r"\.last_version"):
        next_version(tmp_path)


def test_homes_are_folders_with_versions_or_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "a" / "1").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.pbtxt").touch()
    (tmp_path / "trusted_keys").mkdir()
    (tmp_path / ".staging-x" / "1").mkdir(parents=True)
    assert [home.name for home in homes_in(tmp_path)] == ["a", "b"]
    with pytest.raises(ExportRefusedError, match="no vertical 'c'; published: a, b"):
        find_home(tmp_path, "c")
    with pytest.raises(ExportRefusedError, match="published: none"):
        find_home(tmp_path / "missing", "c")


def test_what_is_served_is_the_one_version_named(tmp_path: Path) -> None:
    assert served_version(tmp_path) is None
    config = tmp_path / "config.pbtxt"
    config.write_text("version_policy { specific { versions: 12 } }")
    assert served_version(tmp_path) == 12
    for text in ("", "version_policy { latest { num_versions: 1 } }"):
        config.write_text(text)
        with pytest.raises(VersionError, match="names 0 versions"):
            served_version(tmp_path)


@given(st.binary())
def test_any_bytes_are_a_configuration_or_refused_in_one_line(content: bytes) -> None:
    try:
        problem = "" if parse_config(content).DESCRIPTOR.name == "ModelConfig" else "another message"
    except VersionError as error:
        problem = str(error).removeprefix("config.pbtxt: not a model configuration")
        problem = "" if problem != str(error) and "\n" not in problem else str(error)
    assert not problem


def test_a_huge_configuration_is_not_read() -> None:
    with pytest.raises(VersionError, match="at most"):
        parse_config(b"#" * (1 << 21))

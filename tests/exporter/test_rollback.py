import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.errors import ExportRefusedError, VersionError
from exporter.home import served_version, versions_in
from exporter.rollback import prune, rollback
from exporter.signing import NO_KEYS, load_trusted, make_key, trust

Put = Callable[..., Path]
VERTICAL = "feed_click"


@pytest.fixture
def three(put: Put, tmp_path: Path) -> Path:
    for _ in range(3):
        put(tmp_path)
    return tmp_path


def test_back_step_by_step_and_forward_again(three: Path) -> None:
    home = three / VERTICAL
    configs = {number: (home / str(number) / "published.pbtxt").read_bytes() for number in (1, 2, 3)}
    assert rollback(three, VERTICAL, NO_KEYS) == (3, 2)
    assert rollback(three, VERTICAL, NO_KEYS) == (2, 1)
    with pytest.raises(ExportRefusedError, match="no version before the served one, 1"):
        rollback(three, VERTICAL, NO_KEYS)
    assert (home / "config.pbtxt").read_bytes() == configs[1]
    assert rollback(three, VERTICAL, NO_KEYS, 3) == (1, 3)
    assert (home / "config.pbtxt").read_bytes() == configs[3]


def test_a_version_that_is_not_there_is_refused(three: Path) -> None:
    with pytest.raises(ExportRefusedError, match="no version 9; there are 1, 2, 3"):
        rollback(three, VERTICAL, NO_KEYS, 9)
    with pytest.raises(ExportRefusedError, match="no vertical 'other'"):
        rollback(three, "other", NO_KEYS)


def test_a_damaged_version_is_refused_and_nothing_changes(three: Path) -> None:
    path = three / VERTICAL / "2" / "model.py"
    path.chmod(0o644)
    path.write_bytes(b"tampered")
    before = (three / VERTICAL / "config.pbtxt").read_bytes()
    with pytest.raises(VersionError, match=r"2/model\.py: sha256"):
        rollback(three, VERTICAL, NO_KEYS)
    assert (three / VERTICAL / "config.pbtxt").read_bytes() == before


def test_an_unsigned_version_is_refused_once_keys_are_trusted(three: Path) -> None:
    trust(three, make_key(three / ".keys" / "signing.pem").key.public_key())
    with pytest.raises(VersionError, match="unsigned"):
        rollback(three, VERTICAL, load_trusted(three))


def test_a_broken_configuration_is_mended_by_naming_the_version(three: Path) -> None:
    (three / VERTICAL / "config.pbtxt").write_bytes(b"\xff{")
    with pytest.raises(ExportRefusedError, match="name the version with --to"):
        rollback(three, VERTICAL, NO_KEYS)
    assert rollback(three, VERTICAL, NO_KEYS, 3) == (None, 3)
    assert served_version(three / VERTICAL) == 3


def test_prune_keeps_the_served_and_the_newest(put: Put, three: Path) -> None:
    put(three)
    rollback(three, VERTICAL, NO_KEYS, 2)
    assert prune(three, VERTICAL, 1, dry_run=True) == [1, 3]
    assert versions_in(three / VERTICAL) == [1, 2, 3, 4]
    assert prune(three, VERTICAL, 1) == [1, 3]
    assert versions_in(three / VERTICAL) == [2, 4]
    assert prune(three, VERTICAL, 9) == []
    assert {path.name for path in three.iterdir()} == {VERTICAL}


def test_a_number_is_never_given_twice(put: Put, three: Path) -> None:
    home = three / VERTICAL
    rollback(three, VERTICAL, NO_KEYS, 1)
    (home / ".last_version").unlink()
    (home / "3").rename(home / "8")  # as if an older exporter had left no mark
    assert prune(three, VERTICAL, 1) == [2]
    shutil.rmtree(home / "8")
    assert put(three).name == "9"


def test_prune_wants_to_know_what_is_served(three: Path) -> None:
    (three / VERTICAL / "config.pbtxt").unlink()
    with pytest.raises(ExportRefusedError, match="not clear which version is in use"):
        prune(three, VERTICAL, 1)
    assert versions_in(three / VERTICAL) == [1, 2, 3]

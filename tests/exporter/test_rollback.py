import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from exporter.durable import locked
from exporter.errors import ExportRefusedError, VersionError
from exporter.home import served_version, versions_in
from exporter.rollback import prune, rollback
from exporter.signing import make_key, trust

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
    assert rollback(three, VERTICAL) == (3, 2)
    assert rollback(three, VERTICAL) == (2, 1)
    with pytest.raises(ExportRefusedError, match="no version before the served one, 1"):
        rollback(three, VERTICAL)
    assert (home / "config.pbtxt").read_bytes() == configs[1]
    assert rollback(three, VERTICAL, 3) == (1, 3)
    assert (home / "config.pbtxt").read_bytes() == configs[3]


def test_a_version_that_is_not_there_is_refused(three: Path) -> None:
    with pytest.raises(ExportRefusedError, match="no version 9; there are 1, 2, 3"):
        rollback(three, VERTICAL, 9)
    with pytest.raises(ExportRefusedError, match="no vertical 'other'"):
        rollback(three, "other")


def test_a_damaged_version_is_refused_and_nothing_changes(three: Path) -> None:
    path = three / VERTICAL / "2" / "model.py"
    path.chmod(0o644)
    path.write_bytes(b"tampered")
    before = (three / VERTICAL / "config.pbtxt").read_bytes()
    with pytest.raises(VersionError, match=r"2/model\.py: sha256"):
        rollback(three, VERTICAL)
    assert (three / VERTICAL / "config.pbtxt").read_bytes() == before


def test_an_unsigned_version_is_refused_once_keys_are_trusted(three: Path) -> None:
    trust(three, make_key(three / ".keys" / "signing.pem").key.public_key())
    with pytest.raises(VersionError, match="unsigned"):
        rollback(three, VERTICAL)


def test_a_broken_configuration_is_mended_by_naming_the_version(three: Path) -> None:
    (three / VERTICAL / "config.pbtxt").write_bytes(b"\xff{")
    with pytest.raises(ExportRefusedError, match="name the version with --to"):
        rollback(three, VERTICAL)
    assert rollback(three, VERTICAL, 3) == (None, 3)
    assert served_version(three / VERTICAL) == 3


def test_prune_keeps_the_served_and_the_newest(put: Put, three: Path) -> None:
    put(three)
    rollback(three, VERTICAL, 2)
    assert prune(three, VERTICAL, 1, dry_run=True) == [1, 3]
    assert versions_in(three / VERTICAL) == [1, 2, 3, 4]
    assert prune(three, VERTICAL, 1) == [1, 3]
    assert versions_in(three / VERTICAL) == [2, 4]
    assert prune(three, VERTICAL, 9) == []
    assert {path.name for path in three.iterdir()} == {VERTICAL}


def test_a_number_is_never_given_twice(put: Put, three: Path) -> None:
    home = three / VERTICAL
    rollback(three, VERTICAL, 1)
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


def test_a_version_that_was_rolled_back_is_not_gone_back_to(put: Put, three: Path) -> None:
    rollback(three, VERTICAL)
    put(three)
    assert rollback(three, VERTICAL) == (4, 2)
    assert rollback(three, VERTICAL) == (2, 1)


def test_where_the_one_before_is_pruned_the_next_older_one_serves(put: Put, three: Path) -> None:
    rollback(three, VERTICAL)
    put(three)
    shutil.rmtree(three / VERTICAL / "2")
    assert rollback(three, VERTICAL) == (4, 1)


def test_a_served_version_that_is_damaged_still_tells_what_it_replaced(put: Put, three: Path) -> None:
    rollback(three, VERTICAL)
    served = put(three)
    (served / "model.py").unlink()
    assert rollback(three, VERTICAL) == (4, 2)
    rollback(three, VERTICAL, 3)
    (three / VERTICAL / "3" / "manifest.json").unlink()
    with pytest.raises(VersionError, match="cannot tell what it replaced: name the version with --to"):
        rollback(three, VERTICAL)


def test_a_key_that_is_trusted_while_a_rollback_waits_counts(three: Path) -> None:
    key = make_key(three / ".keys" / "signing.pem").key.public_key()
    with ThreadPoolExecutor(1) as pool, locked(three):
        waiting = pool.submit(rollback, three, VERTICAL, 1)
        (three / "trusted_keys").mkdir()
        pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        (three / "trusted_keys" / "key.pem").write_bytes(pem)
    with pytest.raises(VersionError, match="unsigned"):
        waiting.result()
    assert served_version(three / VERTICAL) == 3

import fcntl
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from exporter.durable import locked
from exporter.errors import ExportRefusedError, VersionError
from exporter.home import served_version, versions_in
from exporter.rollback import Pruned, prune, rollback
from exporter.runner.aside import serves
from exporter.signing import OWN_KEY, make_key, trust

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
    assert prune(three, VERTICAL, 1, dry_run=True) == Pruned([1, 3])
    assert versions_in(three / VERTICAL) == [1, 2, 3, 4]
    assert prune(three, VERTICAL, 1) == Pruned([1, 3])
    assert versions_in(three / VERTICAL) == [2, 4]
    assert prune(three, VERTICAL, 9) == Pruned()
    assert {path.name for path in three.iterdir()} == {VERTICAL}


def test_a_number_is_never_given_twice(put: Put, three: Path) -> None:
    home = three / VERTICAL
    rollback(three, VERTICAL, 1)
    (home / ".last_version").unlink()
    (home / "3").rename(home / "8")  # as if an older exporter had left no mark
    assert prune(three, VERTICAL, 1) == Pruned([2])
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


def _loads(folder: str) -> int:
    """As Triton does while it loads a version."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


@pytest.mark.parametrize("use", [serves, _loads])
def test_prune_leaves_what_a_server_uses(put: Put, three: Path, use: Callable[[str], int]) -> None:
    put(three)
    used = use(str(three / VERTICAL / "2"))
    assert prune(three, VERTICAL, 1, dry_run=True) == Pruned([1, 3], [2])
    assert prune(three, VERTICAL, 1) == Pruned([1, 3], [2])
    assert versions_in(three / VERTICAL) == [2, 4]
    os.close(used)
    assert prune(three, VERTICAL, 1) == Pruned([2])
    assert versions_in(three / VERTICAL) == [4]


def test_keys_named_count_besides_the_repositorys(put: Put, signed: Path, tmp_path: Path) -> None:
    for _ in range(2):
        put(signed)
    other = make_key(tmp_path / "other.pem").key_id
    named = tmp_path / "named"
    named.mkdir()
    (tmp_path / "other.pub.pem").rename(named / "other.pem")
    with pytest.raises(VersionError, match=f"signed by the key .*, which is not among those that {named} trusts"):
        rollback(signed, VERTICAL, 1, named)
    shutil.copy(next((signed / "trusted_keys").iterdir()), named / "own.pem")
    shutil.rmtree(signed / "trusted_keys")
    (signed / "trusted_keys").mkdir()
    (named / "other.pem").rename(signed / "trusted_keys" / "other.pem")
    with pytest.raises(VersionError, match=f"not among those that {signed / 'trusted_keys'} trusts"):
        rollback(signed, VERTICAL, 1, named)
    assert served_version(signed / VERTICAL) == 2
    shutil.copy((signed / OWN_KEY).with_suffix(".pub.pem"), signed / "trusted_keys" / f"not-{other}.pem")
    assert rollback(signed, VERTICAL, 1, named) == (2, 1)

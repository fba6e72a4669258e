import errno
import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig

from exporter.errors import ExportRefusedError
from exporter.home import CONFIG, OWN_CONFIG, served_version, versions_in
from exporter.inventory import verify_repository
from exporter.publish import Publication, publish
from exporter.signing import load_trusted, make_key, trust
from exporter.staging import staging

Put = Callable[..., Path]
VERTICAL = "feed_click"


def test_versions_count_up_over_gaps(put: Put, tmp_path: Path) -> None:
    for version in ("2", "10", "notes"):
        (tmp_path / VERTICAL / version).mkdir(parents=True)
    assert put(tmp_path).name == "11"
    assert versions_in(tmp_path / VERTICAL) == [2, 10, 11]
    assert (tmp_path / VERTICAL / ".last_version").read_text() == "11\n"


def test_the_configuration_names_the_new_version_and_lies_beside_it_too(put: Put, tmp_path: Path) -> None:
    put(tmp_path)
    folder = put(tmp_path)
    assert served_version(tmp_path / VERTICAL) == 2
    assert (folder / OWN_CONFIG).read_bytes() == (tmp_path / VERTICAL / CONFIG).read_bytes()
    assert json.loads((folder / "manifest.json").read_text())["version"] == 2


def test_published_files_are_read_only(put: Put, tmp_path: Path) -> None:
    files = [path for path in put(tmp_path).rglob("*") if path.is_file()]
    assert len(files) == 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o444}


@pytest.mark.parametrize("step", ["rename", "replace"])
def test_a_failure_takes_back_what_was_put_in_place(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    put(tmp_path)
    original: Callable[[Path, Path], Path] = getattr(Path, step)
    hits: list[Path] = []

    def fail(path: Path, target: Path) -> Path:
        if Path(target).name in ("2", CONFIG) and not hits:
            hits.append(target)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, fail)
        with pytest.raises(OSError, match="No space left"):
            put(tmp_path)
    assert hits
    assert (served_version(tmp_path / VERTICAL), versions_in(tmp_path / VERTICAL)) == (1, [1])
    assert {path.name for path in tmp_path.iterdir()} == {VERTICAL}
    assert {path.name for path in (tmp_path / VERTICAL).iterdir()} == {"1", CONFIG, ".last_version"}
    assert put(tmp_path).name == "3"


def test_a_first_publication_that_fails_leaves_nothing(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr("exporter.publish.write_aside", fail)
        with pytest.raises(OSError, match="Read-only"):
            put(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_repository_that_trusts_keys_takes_no_other_signer(put: Put, tmp_path: Path) -> None:
    put(tmp_path)
    key = make_key(tmp_path / "elsewhere.pem").key.public_key()
    trust(tmp_path, key)
    with pytest.raises(ExportRefusedError, match="no signing key was given"):
        put(tmp_path)
    make_key(tmp_path / ".keys" / "signing.pem")
    with pytest.raises(ExportRefusedError, match=r"trusts .*, not the signing key"):
        put(tmp_path)
    assert versions_in(tmp_path / VERTICAL) == [1]


def test_two_publishers_get_two_numbers(put: Put, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: put(tmp_path).name, range(8)))
    assert sorted(map(int, made)) == list(range(1, 9))
    assert all(not verdict.problem for verdict in verify_repository(tmp_path, load_trusted(tmp_path)))


def test_a_key_that_is_trusted_while_an_export_goes_on_counts(put: Put, tmp_path: Path) -> None:
    """The version was staged and the keys were looked at before; publishing unsigned now would end in no reader."""
    put(tmp_path)
    with staging(tmp_path) as folder:
        waiting = Publication(VERTICAL, {}, ModelConfig())
        trust(tmp_path, make_key(tmp_path / "elsewhere.pem").key.public_key())
        with pytest.raises(ExportRefusedError, match="no signing key was given"):
            publish(folder, tmp_path, waiting)
    assert versions_in(tmp_path / VERTICAL) == [1]


def test_whoever_serves_can_read_what_a_cautious_umask_has_made(put: Put, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        repository = tmp_path / "deep" / "repository"
        put(repository)
    finally:
        os.umask(before)
    seen = [tmp_path / "deep", *(tmp_path / "deep").rglob("*")]
    assert len(seen) > 8
    assert [path for path in seen if path.stat().st_mode & 0o044 != 0o044] == []
    assert [path for path in seen if path.is_dir() and path.stat().st_mode & 0o011 != 0o011] == []


@pytest.mark.parametrize("left", [0o700, 0o2700])
def test_a_home_that_a_killed_process_left_closed_is_opened(put: Put, tmp_path: Path, left: int) -> None:
    (tmp_path / VERTICAL).mkdir()
    (tmp_path / VERTICAL).chmod(left)
    put(tmp_path)
    assert stat.S_IMODE((tmp_path / VERTICAL).stat().st_mode) == left | 0o755
    (tmp_path / VERTICAL).chmod(0o750)
    put(tmp_path)
    assert stat.S_IMODE((tmp_path / VERTICAL).stat().st_mode) == 0o750, "somebody's own choice"


def test_entries_that_are_known_only_under_the_lock_are_in_the_manifest(tmp_path: Path) -> None:
    with staging(tmp_path) as folder:
        waiting = Publication(VERTICAL, {"a": 1, "b": 2}, ModelConfig())
        place = publish(folder, tmp_path, waiting, lambda _: {"b": 3})
    manifest = json.loads((place / "manifest.json").read_text())
    assert (manifest["a"], manifest["b"]) == (1, 3)


def test_a_signer_must_be_trusted_by_the_repository_and_by_whom_was_named(put: Put, tmp_path: Path) -> None:
    """A server goes by the ones or the others, and would refuse what only one of them has signed."""
    put(tmp_path)
    here, named = make_key(tmp_path / "here.pem"), make_key(tmp_path / "named" / "key.pem")
    (tmp_path / "named" / "key.pem").unlink()
    trust(tmp_path, here.key.public_key())
    for signer, refuses in ((named, tmp_path / "trusted_keys"), (here, tmp_path / "named"), (None, tmp_path / "named")):
        with staging(tmp_path) as folder:
            waiting = Publication(VERTICAL, {}, ModelConfig(), signer, tmp_path / "named")
            with pytest.raises(ExportRefusedError, match=f"^{refuses} trusts .*, (not the|no) signing key"):
                publish(folder, tmp_path, waiting)
    assert versions_in(tmp_path / VERTICAL) == [1]

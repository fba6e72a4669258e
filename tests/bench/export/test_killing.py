"""Kill -9, a full disk and an unwritable one, at every step of publishing, rolling back and pruning."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.export.killing import Rounds, Scene, kill_everywhere
from exporter.durable import write_durably
from exporter.home import OWN_CONFIG, parse_config, versions_in
from exporter.integrity import read_version
from exporter.publish import Publication, publish
from exporter.signing import NO_KEYS
from exporter.staging import staging

MEMORY = Path("/dev/shm")
KEPT = ("schema.json", "prior.npz", "golden.npz", "engine.json", "model.py")
NESTED = "exporter/__init__.py"


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """In memory where that can be: hundreds of publications, each synced file by file, are slow on a disk."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def source(published_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version without the runner's modules: what is done to one file is done to all of them, one after the other."""
    repository, full = tmp_path_factory.mktemp("few"), published_repository / "feed_click" / "1"
    manifest = {k: v for k, v in read_version(full, NO_KEYS).manifest.items() if k not in ("version", "files")}
    config = parse_config((full / OWN_CONFIG).read_bytes())
    with staging(repository) as folder:
        (folder / "exporter").mkdir()
        for name in (*KEPT, NESTED):
            shutil.copyfile(full / name, folder / name)
        return publish(folder, repository, Publication("feed_click", manifest, config))


@pytest.mark.parametrize("code", [0, errno.ENOSPC, errno.EACCES], ids=["kill -9", "disk full", "unwritable"])
def test_a_reader_sees_the_old_version_or_the_new_one(source: Path, scratch: Path, code: int) -> None:
    found = kill_everywhere(source, scratch, code, recover_every=7)
    assert found["problems"] == []
    assert (found["bad_versions"], found["bad_reads"], found["bad_recoveries"]) == (0, 0, 0)
    # A publication writes, syncs and makes read-only each of its files; rollback writes, syncs, renames, syncs.
    assert found["steps"]["publish"] > 3 * len((*KEPT, NESTED))
    assert found["steps"]["rollback"] >= 4
    assert found["rounds"] >= sum(found["steps"].values())


def test_the_harness_notices_a_careless_publisher(source: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that seals a version after it was put in place, and names it before that: cut short, it is seen broken."""

    def careless(source: Path, repository: Path) -> None:
        home = repository / "feed_click"
        number = max(versions_in(home)) + 1
        config = (home / "config.pbtxt").read_text()
        write_durably(home / "config.pbtxt", config.replace(f"versions: {number - 1}", f"versions: {number}").encode())
        shutil.copytree(source, home / str(number))

    scene = Scene("careless", 1, lambda repository, _, source: careless(source, repository), 2)
    monkeypatch.setattr("bench.export.killing.SCENES", (scene,))
    found = Rounds(source, scratch, recover_every=1000).run()
    assert found["bad_versions"] > 0
    assert found["bad_reads"] > 0

from pathlib import Path

import pytest

from exfm.features.schema import Schema
from exporter import package
from exporter.configure import Batching
from exporter.package import hashes_of, publish, staging, versions_in


def stage_and_publish(repository: Path, schema: Schema) -> Path:
    with staging(repository) as folder:
        (folder / "model.onnx").write_bytes(b"graph")
        return publish(folder, repository, schema, {"format": 1}, Batching())


def test_versions_count_up_over_gaps(tmp_path: Path, tiny_schema: Schema) -> None:
    own = tiny_schema.for_vertical("feed_click")
    for version in ("2", "10", "notes"):
        (tmp_path / "feed_click" / version).mkdir(parents=True)
    assert stage_and_publish(tmp_path, own).name == "11"
    assert versions_in(tmp_path / "feed_click") == [2, 10, 11]


def test_a_crash_before_the_configuration_leaves_the_old_one(
    tmp_path: Path, tiny_schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tiny_schema.for_vertical("feed_click")
    stage_and_publish(tmp_path, own)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(package, "write_config", crash)
        with pytest.raises(KeyboardInterrupt):
            stage_and_publish(tmp_path, own)
    assert "versions: 1" in (tmp_path / "feed_click" / "config.pbtxt").read_text()
    assert stage_and_publish(tmp_path, own).name == "3"


def test_an_abandoned_staging_folder_goes(tmp_path: Path) -> None:
    with staging(tmp_path / "repository") as folder:
        assert folder.name.startswith(".staging-")
        (folder / "model.onnx").write_bytes(b"half")
    assert list((tmp_path / "repository").iterdir()) == []


def test_hashes_leave_the_manifest_out(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"")
    (tmp_path / "manifest.json").write_bytes(b"{}")
    assert hashes_of(tmp_path) == {"deep/file": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}

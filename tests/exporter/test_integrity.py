import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.errors import VersionError
from exporter.home import CONFIG, MANIFEST, SIGNATURE
from exporter.integrity import check_config, check_version, hashes_of, read_version
from exporter.signing import NO_KEYS, load_trusted

Put = Callable[..., Path]
AsNobody = Callable[[Callable[[], object], type[Exception]], str]


def overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def test_a_published_version_is_whole(put: Put, tmp_path: Path, signed: Path) -> None:
    assert check_version(put(tmp_path), NO_KEYS).signature == "unsigned"
    version = check_version(put(signed), load_trusted(signed))
    assert (version.number, version.signature) == (1, "signed")
    check_config((version.folder.parent / CONFIG).read_bytes(), version)


@pytest.mark.parametrize("name", ["model.py", "deep/file", "schema.json", "published.pbtxt"])
def test_a_changed_file_is_found(put: Put, tmp_path: Path, name: str) -> None:
    folder = put(tmp_path)
    overwrite(folder / name, b"other")
    with pytest.raises(VersionError, match=f"{name}: sha256 is .*, the manifest says"):
        check_version(folder, NO_KEYS)


def test_missing_and_additional_files_are_found(put: Put, tmp_path: Path) -> None:
    folder = put(tmp_path)
    (folder / "deep" / "file").unlink()
    with pytest.raises(VersionError, match="deep/file: missing"):
        check_version(folder, NO_KEYS)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"evil")
    with pytest.raises(VersionError, match=r"model\.cpython-311\.pyc: not in the manifest"):
        check_version(folder, NO_KEYS)


def test_a_link_is_no_file(put: Put, tmp_path: Path) -> None:
    folder = put(tmp_path)
    (folder / "model.py").rename(tmp_path / "elsewhere")
    (folder / "model.py").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(VersionError, match=r"model\.py: missing, or not a plain file"):
        check_version(folder, NO_KEYS)


def test_the_manifest_is_what_was_signed(put: Put, signed: Path) -> None:
    folder = put(signed)
    manifest = (folder / MANIFEST).read_bytes()
    overwrite(folder / MANIFEST, manifest.replace(b'"ne": 0.9', b'"ne": 0.1'))
    with pytest.raises(VersionError, match=f"{folder}: the signature by .* does not fit"):
        read_version(folder, load_trusted(signed))
    overwrite(folder / MANIFEST, manifest)
    (folder / SIGNATURE).unlink()
    with pytest.raises(VersionError, match="unsigned"):
        read_version(folder, load_trusted(signed))


def test_a_signed_version_cannot_be_shown_as_another(put: Put, signed: Path) -> None:
    folder = put(signed)
    folder.rename(folder.parent / "5")
    with pytest.raises(VersionError, match="version is 1, not 5"):
        read_version(folder.parent / "5", load_trusted(signed))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"format": 2}', b"[" * 100_000])
def test_junk_is_no_manifest(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "feed_click" / "1").mkdir(parents=True)
    (tmp_path / "feed_click" / "1" / MANIFEST).write_bytes(content)
    with pytest.raises(VersionError, match=r"manifest\.json: "):
        check_version(tmp_path / "feed_click" / "1", NO_KEYS)


def test_a_manifest_must_list_files(tmp_path: Path) -> None:
    folder = tmp_path / "feed_click" / "1"
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(json.dumps({"format": 1, "vertical": "feed_click", "version": 1, "files": []}))
    with pytest.raises(VersionError, match="lists no files"):
        check_version(folder, NO_KEYS)


def test_a_configuration_edited_by_hand_is_found(put: Put, tmp_path: Path) -> None:
    version = check_version(put(tmp_path), NO_KEYS)
    with (version.folder.parent / CONFIG).open("a") as config:
        config.write("# tuned\n")
    with pytest.raises(VersionError, match=r"config\.pbtxt: changed since version 1"):
        check_config((version.folder.parent / CONFIG).read_bytes(), version)


def test_hashes_leave_the_manifest_out_but_not_its_namesakes(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("deep/manifest.json", MANIFEST, SIGNATURE):
        (tmp_path / name).write_bytes(b"")
    assert hashes_of(tmp_path) == {
        "deep/manifest.json": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    }


@pytest.mark.parametrize("name", ["hidden", "deep", "deep/file", "manifest.json", "."])
def test_what_may_not_be_read_is_vouched_for_by_nobody(
    put: Put, tmp_path: Path, as_nobody: AsNobody, name: str
) -> None:
    """Neither a file that the manifest lists nor a folder in which anything else might lie."""
    folder = put(tmp_path)
    path = (folder / name).resolve()
    if name == "hidden":
        path.mkdir()
        (path / "model.cpython-311.pyc").write_bytes(b"evil")
    mode = path.stat().st_mode
    path.chmod(0)
    said = as_nobody(lambda: check_version(folder, NO_KEYS), VersionError)
    hidden = as_nobody(lambda: hashes_of(folder), OSError) if name != "manifest.json" else str(path)
    path.chmod(mode)
    assert "Permission denied, so nobody vouches for it" in said
    assert str(path) in said
    assert str(path) in hidden


def test_a_pipe_is_no_file_and_nobody_waits_for_it(put: Put, tmp_path: Path) -> None:
    folder = put(tmp_path)
    (folder / "model.py").unlink()
    os.mkfifo(folder / "model.py")
    with pytest.raises(VersionError, match=r"model\.py: missing, or not a plain file"):
        check_version(folder, NO_KEYS)

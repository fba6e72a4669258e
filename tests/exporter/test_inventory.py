from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.errors import ExportRefusedError
from exporter.inventory import find_version, list_versions, verify_repository
from exporter.rollback import rollback
from exporter.signing import NO_KEYS, load_trusted

Put = Callable[..., Path]
VERTICAL = "feed_click"


def test_a_sound_repository(put: Put, signed: Path) -> None:
    put(signed)
    put(signed)
    verdicts = verify_repository(signed, load_trusted(signed))
    assert [(v.version, v.served, v.signature, v.problem) for v in verdicts] == [
        (1, False, "signed", ""),
        (2, True, "signed", ""),
    ]


def test_each_kind_of_damage_has_its_verdict(put: Put, tmp_path: Path) -> None:
    put(tmp_path)
    served = put(tmp_path)
    config = tmp_path / VERTICAL / "config.pbtxt"
    original = config.read_bytes()
    config.write_bytes(original + b"# tuned")
    assert "changed since version 2" in verify_repository(tmp_path, NO_KEYS)[-1].problem
    config.write_bytes(b"{")
    assert "not a model configuration" in verify_repository(tmp_path, NO_KEYS)[-1].problem
    config.write_bytes(original)
    served.rename(tmp_path / "gone")
    verdicts = verify_repository(tmp_path, NO_KEYS)
    assert [verdict.version for verdict in verdicts] == [1, None]
    assert "names version 2, which is not there" in verdicts[-1].problem


def test_a_list_shows_what_matters(put: Put, tmp_path: Path) -> None:
    put(tmp_path)
    put(tmp_path, ne=None)
    rollback(tmp_path, VERTICAL, NO_KEYS)
    first, second = list_versions(tmp_path, NO_KEYS)
    assert first == {
        "vertical": VERTICAL,
        "version": 1,
        "served": True,
        "created_utc": "2026-01-01T00:00:00+00:00",
        "ne": {"click": 0.9, "like": 0.8},
        "auc": {"click": 0.7},
        "engine": "onnx",
        "p50_ms_at_200": 0.5,
        "signature": "unsigned",
        "problem": "",
    }
    assert (second["served"], second["ne"]) == (False, {"like": 0.8})


def test_a_list_goes_on_past_a_broken_version(put: Put, tmp_path: Path) -> None:
    put(tmp_path)
    (tmp_path / VERTICAL / "2").mkdir()
    _, broken = list_versions(tmp_path, NO_KEYS)
    assert broken["signature"] == "refused"
    assert "no complete version" in broken["problem"]


def test_versions_are_found_by_name(put: Put, tmp_path: Path) -> None:
    folder, served = put(tmp_path), put(tmp_path)
    assert find_version(tmp_path, f"{VERTICAL}/1") == folder
    assert find_version(tmp_path, f"{VERTICAL}/served") == served == find_version(tmp_path, VERTICAL)
    assert find_version(tmp_path / "other", str(folder)) == folder
    for name in (f"{VERTICAL}/7", f"{VERTICAL}/x", "other/1", ""):
        with pytest.raises(ExportRefusedError):
            find_version(tmp_path, name)

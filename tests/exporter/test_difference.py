import json
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.difference import differ
from exporter.errors import VersionError
from exporter.signing import NO_KEYS

Put = Callable[..., Path]


def test_two_of_the_same_differ_in_nothing_but_their_number(put: Put, tmp_path: Path) -> None:
    found = differ(put(tmp_path), put(tmp_path), NO_KEYS)
    assert (found["before"], found["after"]) == ("feed_click/1", "feed_click/2")
    assert found["schema"] == {
        "same": True,
        "features": {"added": [], "removed": [], "changed": []},
        "entries": {},
    }
    assert found["files"] == {"added": [], "removed": [], "changed": ["published.pbtxt"]}
    assert [line for line in found["config"] if line[0] in "+-"][2:] == ["-    versions: 1", "+    versions: 2"]


def test_every_difference_is_named(put: Put, tmp_path: Path) -> None:
    found = differ(put(tmp_path), put(tmp_path, ne=0.85, parameters=9, extra=b"other"), NO_KEYS)
    assert found["parameters"] == [7, 9]
    assert found["quality"]["ne"] == {"click": [0.9, 0.85], "like": [0.8, 0.8]}
    assert found["latency"]["200"] == {"p50_ms": [0.5, 0.5], "p99_ms": [0.9, 0.9]}
    assert found["files"]["changed"] == ["model.py", "published.pbtxt"]
    json.dumps(found)


def test_only_sound_versions_are_compared(put: Put, tmp_path: Path) -> None:
    folder = put(tmp_path)
    (folder / "model.py").chmod(0o644)
    (folder / "model.py").write_bytes(b"tampered")
    with pytest.raises(VersionError, match="sha256"):
        differ(folder, put(tmp_path), NO_KEYS)

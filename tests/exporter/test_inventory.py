from collections.abc import Callable
from pathlib import Path

import pytest

from exporter import integrity
from exporter.compare import QualityGate, compare
from exporter.errors import ExportRefusedError
from exporter.integrity import Version
from exporter.inventory import find_version, list_versions, verify_home, verify_repository
from exporter.lint.check import lint_home
from exporter.lint.facts import Host
from exporter.progress import Watch
from exporter.rollback import prune, rollback
from exporter.signing import NO_KEYS, load_trusted
from exporter.staging import staging

Put = Callable[..., Path]
VERTICAL = "feed_click"
TASKS = ("click", "like")
GATE = QualityGate()


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
    rollback(tmp_path, VERTICAL)
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


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """`meanwhile(act)`: it happens once, after config.pbtxt was read and before the first version's files are."""

    def at(act: Callable[[], object]) -> None:
        def first(version: Version, watch: Watch) -> Version:
            monkeypatch.undo()
            act()
            return check_files(version, watch)

        check_files = integrity._check_files
        monkeypatch.setattr(integrity, "_check_files", first)

    return at


@pytest.mark.parametrize("content", [b"", b"{", b"version_policy { specific { versions: 7 } }"])
def test_a_configuration_aside_of_no_version_is_rubbish(put: Put, tmp_path: Path, content: bytes) -> None:
    """A first publication that was killed earlier, or a vertical that lost its configuration and then had one."""
    config = put(tmp_path).parent / "config.pbtxt"
    config.unlink()
    aside = config.with_name(".aside-config.pbtxt")
    aside.write_bytes(content)
    with staging(tmp_path):
        assert not aside.exists()
    assert "no config.pbtxt" in verify_repository(tmp_path, NO_KEYS)[-1].problem


def test_one_of_several_versions_is_no_first_one(put: Put, tmp_path: Path) -> None:
    for _ in range(3):
        config = put(tmp_path).parent / "config.pbtxt"
    config.rename(config.with_name(".aside-config.pbtxt"))
    with staging(tmp_path):
        pass
    assert "no config.pbtxt, so none of them is served" in verify_repository(tmp_path, NO_KEYS)[-1].problem


READERS = {
    "verify": lambda home: [verdict.problem for verdict in verify_home(home, NO_KEYS) if verdict.problem],
    "lint": lambda home: [found.what for found in lint_home(home, NO_KEYS, Host(4, 0)) if found.severity == "error"],
    "compare": lambda home: [compare({"ne": 0.9, "tasks": {"like": {"ne": 0.8}}}, TASKS, home, NO_KEYS, GATE).excuse],
}


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("name", READERS)
def test_what_others_do_meanwhile_is_no_damage(
    put: Put, tmp_path: Path, meanwhile: Callable[[Callable[[], object]], None], *, name: str, pruned: bool
) -> None:
    home = put(tmp_path).parent

    def publish_and_prune() -> None:
        put(tmp_path)
        if pruned:
            prune(tmp_path, VERTICAL, 1)

    meanwhile(publish_and_prune)
    assert not any(READERS[name](home))


def test_a_version_that_is_pruned_meanwhile_has_no_verdict(
    put: Put, tmp_path: Path, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    for _ in range(2):
        put(tmp_path)
    meanwhile(lambda: prune(tmp_path, VERTICAL, 1))
    assert [(verdict.version, verdict.problem) for verdict in verify_repository(tmp_path, NO_KEYS)] == [(2, "")]


def test_a_lost_configuration_is_a_problem_unless_it_still_lies_aside(put: Put, tmp_path: Path) -> None:
    config = put(tmp_path).parent / "config.pbtxt"
    config.rename(config.with_name(".aside-config.pbtxt"))  # a first publication that was killed right before its end
    assert [verdict.problem for verdict in verify_repository(tmp_path, NO_KEYS)] == [""]
    with staging(tmp_path):
        pass
    assert [verdict.problem for verdict in verify_repository(tmp_path, NO_KEYS)] == [""], "whoever came next cleared"
    assert rollback(tmp_path, VERTICAL, 1) == (None, 1), "that ends the publication"
    config.rename(config.with_name(".aside-config.pbtxt"))
    assert put(tmp_path).name == "2"
    assert not config.with_name(".aside-config.pbtxt").exists()
    config.unlink()
    assert "no config.pbtxt, so none of them is served" in verify_repository(tmp_path, NO_KEYS)[-1].problem

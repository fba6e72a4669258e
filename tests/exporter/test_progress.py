from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exporter.integrity import check_version
from exporter.package import seal
from exporter.progress import Count, on_stderr
from exporter.signing import NO_KEYS


def test_bytes_are_shown_as_such_once_they_take_a_while(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with on_stderr("bytes hashed", 3 << 20) as count:
        count(1 << 20)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("exporter.progress._SOON_S", 0)
    monkeypatch.setattr("exporter.progress._OFTEN_S", 0)
    with on_stderr("bytes hashed", 3 << 20) as count:
        count(3 << 20)
    assert "bytes hashed: 100%" in (shown := capsys.readouterr().err)
    assert "3.00M/3.00M" in shown
    with on_stderr("engines", 2) as count:
        count()
        count()
    assert "engines: 100%|" in (shown := capsys.readouterr().err)
    assert "2/2" in shown


def test_every_byte_of_a_version_is_counted(put: Callable[..., Path], tmp_path: Path) -> None:
    totals: dict[str, int] = {}
    done: dict[str, int] = {}

    @contextmanager
    def watch(unit: str, total: int) -> Iterator[Count]:
        totals[unit], done[unit] = total, 0

        def count(more: int = 1) -> None:
            done[unit] += more

        yield count

    staged = tmp_path / "staged"
    (staged / "deep").mkdir(parents=True)
    (staged / "deep" / "model.onnx").write_bytes(bytes(3 << 20))
    seal(staged, 1, b"config", {}, None, watch=watch)
    manifest = (staged / "manifest.json").stat().st_size
    size = (3 << 20) + len(b"config")
    assert totals == {"bytes hashed": size, "bytes synced": size + manifest}
    assert done == totals
    version = put(tmp_path / "repository", extra=bytes(2 << 20))
    totals.clear()
    done.clear()
    check_version(version, NO_KEYS, watch)
    assert totals["bytes checked"] > 2 << 20
    assert done == totals

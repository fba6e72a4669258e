import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.durable import try_lock
from exporter.staging import staging


def test_an_abandoned_folder_goes(tmp_path: Path) -> None:
    with staging(tmp_path / "repository") as folder:
        assert folder.name.startswith(".staging-")
        (folder / "model.onnx").write_bytes(b"half")
    assert list((tmp_path / "repository").iterdir()) == []
    with pytest.raises(KeyboardInterrupt), staging(tmp_path / "repository"):
        raise KeyboardInterrupt
    assert list((tmp_path / "repository").iterdir()) == []


def test_rubbish_of_the_dead_is_cleared_and_the_living_are_left_alone(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, time\nfrom exporter.staging import staging\n"
        "with staging(pathlib.Path(sys.argv[1])) as folder:\n"
        "    print(folder, flush=True)\n    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        (tmp_path / "feed_click").mkdir()
        (tmp_path / "feed_click" / ".aside-config.pbtxt").touch()
        with staging(tmp_path) as mine:
            assert {path.name for path in tmp_path.iterdir()} == {theirs.name, mine.name, "feed_click"}
        assert list((tmp_path / "feed_click").iterdir()) == []
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert theirs.is_dir()
    with staging(tmp_path):
        assert not theirs.exists()


def test_a_folder_that_its_own_process_removes_meanwhile_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / ".staging-theirs"
    theirs.mkdir()

    def late(folder: Path) -> int | None:
        if folder == theirs:
            theirs.rmdir()
        return try_lock(folder)

    monkeypatch.setattr("exporter.staging.try_lock", late)
    with staging(tmp_path) as mine:
        assert list(tmp_path.iterdir()) == [mine]

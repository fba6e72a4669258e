"""A file system that is really full: a small tmpfs in a mount namespace of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
SCRIPT = """
import json, shutil, sys
from pathlib import Path
from bench.export.killing import republish
from exporter.home import served_version, versions_in
from exporter.inventory import verify_repository
from exporter.signing import NO_KEYS

source, disk = Path(sys.argv[1]), Path(sys.argv[2])
shutil.copytree(source.parent, disk / "repository" / source.parent.name)
(disk / "ballast").write_bytes(bytes(max(0, shutil.disk_usage(disk).free - 48 * 1024)))
try:
    republish(source, disk / "repository")
    error = ""
except OSError as raised:
    error = str(raised)
(disk / "ballast").unlink()
home = disk / "repository" / source.parent.name
said = {
    "error": error,
    "served": served_version(home),
    "versions": versions_in(home),
    "problems": [v.problem for v in verify_repository(disk / "repository", NO_KEYS) if v.problem],
    "left": sorted(path.name for path in (disk / "repository").iterdir()),
    "next": republish(source, disk / "repository").name,
}
print(json.dumps(said))
"""


def may_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    return not subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode


@pytest.mark.skipif(not may_mount(), reason="no mount namespaces here")
def test_a_full_disk_leaves_the_old_version_served(put: Callable[..., Path], tmp_path: Path) -> None:
    source = put(tmp_path / "repository", extra=b"x" * 200_000)
    (tmp_path / "disk").mkdir()
    mount = 'mount -t tmpfs -o size=4m tmpfs "$1" && shift && exec "$@"'
    command = [*NAMESPACE, "sh", "-c", mount, "sh", str(tmp_path / "disk")]
    command += [sys.executable, "-c", SCRIPT, str(source), str(tmp_path / "disk")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert not done.returncode, done.stderr
    said = json.loads(done.stdout)
    assert "No space left on device" in said.pop("error")
    assert said == {"served": 1, "versions": [1], "problems": [], "left": ["feed_click"], "next": "2"}

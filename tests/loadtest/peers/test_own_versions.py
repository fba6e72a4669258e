"""What our own entries say of their versions."""

import subprocess
from importlib.metadata import version
from pathlib import Path

from loadtest.peers.environments import COMMON
from loadtest.peers.own_versions import WHEELS, commit, own_versions, triton_version
from loadtest.peers.triton_environment import TritonEnvironment


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(("git", "-C", str(folder), *identity, *arguments), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_commit_says_whether_files_differ_from_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert commit(tmp_path) == ""
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit(tmp_path) == head[:12]
    (tmp_path / "file").write_text("changed")
    assert commit(tmp_path) == f"{head[:12]}+changes"
    inside = tmp_path / "site-packages"
    inside.mkdir()
    assert commit(inside) == ""


def test_a_servers_version_is_the_one_that_its_log_told_last(tmp_path: Path) -> None:
    log = tmp_path / "exfm.triton"
    assert triton_version(log) == {}
    log.write_text("| server_id      | triton |\n| server_version | 2.50.0 |\nmore\n| server_version | 2.51.0   |\n")
    assert triton_version(log) == {"tritonserver": "2.51.0"}


def test_product_commit_and_what_scores_are_named(triton_environment: object, tmp_path: Path) -> None:
    path = triton_environment.path  # type: ignore[attr-defined]
    found = own_versions(TritonEnvironment(path, tmp_path))
    assert found["exfm-serving"] == version("exfm-serving")
    assert {"python", "grpcio", *(pin.partition("==")[0] for pin in (*WHEELS, *COMMON))} <= found.keys()
    assert "?" not in found.values()

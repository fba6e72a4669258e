"""Every command of docs/loadtest.md runs, shortened, against a real server; and its figures are ours."""

import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from exfm.features.schema import Vertical
from loadtest.arrivals import shapes
from loadtest.commands.main import main
from loadtest.verdict.objectives import KNOWN, parse
from loadtest.verdict.stats import needed_for
from loadtest.workload import sizes

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "loadtest.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```console\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
SHORTER = {
    "run": "--seconds 0.5",
    # There is none, which is soon found out; the search has tests of its own.
    "capacity": "--first 3 --probe-s 0.3 --confirm-s 0.3 --timeout-ms 0.5 --max-sent-late 1 --max-generator-cpu 1",
    "overload": "--seconds 0.3",
    "soak": "--seconds 0.6 --window-s 0.3",
    "selftest": "--seconds 0.6 --every-s 0.6 --stall-ms 100",
    "locust": "--seconds 0.5",
}


def command(line: str, address: str) -> list[str]:
    words = shlex.split(line.replace("127.0.0.1:8500", address))
    name = words[0] if words[0] == "locust" else words[1]
    more = SHORTER.get(name, "").split()
    if words[0] == "locust":
        words[words.index("-f") + 1] = str(ROOT / "loadtest" / "locustfile.py")
        return [str(Path(sys.executable).with_name("locust")), *words[1:], *more]
    return [*words[1:], *more]


def run(words: list[str]) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


# So short a run may be anything but refused; compare must find a result equal to itself or invalid.
RAN = (0, 1, 3)


def test_every_command_runs(
    real: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ours = [line for line in COMMANDS if line.startswith("exfm-loadtest")]
    assert {shlex.split(line)[1] for line in ours} == {*SHORTER, "replay", "compare"} - {"locust"}
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        # locust needs processes of its own, and most of their time to start.
        others = [line for line in COMMANDS if line not in ours]
        done = [pool.submit(run, command(line, real)) for line in others]
        for line in ours:
            assert main(command(line, real)) in RAN, f"{line}: {capfd.readouterr().err}"
    for line, each in zip(others, done, strict=True):
        assert each.result().returncode in RAN, f"{line}: {each.result().stderr}"
        assert "Traceback" not in each.result().stderr


def test_the_text_says_what_the_code_does() -> None:
    import tomllib

    (toml,) = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert len(parse(tomllib.loads(toml))) == 4
    assert all(f"`{name}`" in TEXT or f"{name} =" in TEXT for name in KNOWN)
    assert all(f"| {name} |" in TEXT for name in shapes.SHAPES)
    assert all(f"`{name}`" in TEXT for name in sizes.NAMED)
    assert f"`dlrm-v3` ({sizes.DLRM_V3:,})" in TEXT
    assert f"`max_candidates` is {Vertical('unsaid', ('click',)).max_candidates:,}" in TEXT
    assert f"{needed_for(0.99):,} requests" in TEXT
    assert f"{needed_for(0.999):,}" in TEXT


def test_every_room_is_in_the_text() -> None:
    table = TEXT.partition("## Where things are")[2]
    rooms = {path.parent.name for path in (ROOT / "loadtest").glob("*/__init__.py")}
    assert {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    } == rooms

"""Every command of docs/loadtest.md runs, shortened, against a real server; and its figures are ours."""

import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from loadtest import shapes, sizes
from loadtest.objectives import KNOWN, parse
from loadtest.stats import needed_for

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "loadtest.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```console\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
SHORTER = {
    "run": "--seconds 1",
    "capacity": "--first 5 --probe-s 0.4 --confirm-s 0.6 --precision 1.1 --candidates 20",
    "overload": "--seconds 0.6",
    "soak": "--seconds 1 --window-s 0.5",
    "selftest": "--seconds 1 --every-s 1 --stall-ms 100",
    "locust": "--seconds 1",
}


def command(line: str, address: str) -> list[str]:
    words = shlex.split(line.replace("127.0.0.1:8500", address))
    name = words[0] if words[0] == "locust" else words[1]
    more = SHORTER.get(name, "").split()
    if words[0] == "locust":
        words[words.index("-f") + 1] = str(ROOT / "loadtest" / "locustfile.py")
        return [str(Path(sys.executable).with_name("locust")), *words[1:], *more]
    return [sys.executable, "-m", "loadtest.commands.main", *words[1:], *more]


def test_every_command_runs(real: str, tmp_path: Path) -> None:
    names = [shlex.split(line)[1] for line in COMMANDS if line.startswith("exfm-loadtest")]
    assert set(names) == {"run", "capacity", "overload", "soak", "replay", "compare", "selftest"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def ran(line: str) -> None:
        done = subprocess.run(
            command(line, real), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        # So short a run may be anything but refused; compare must find a result equal to itself or invalid.
        assert done.returncode in (0, 1, 3), f"{line}: {done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr

    # The first one writes what later ones read; the others may overlap.
    ran(COMMANDS[0])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ran, COMMANDS[1:]))


def test_the_text_says_what_the_code_does() -> None:
    import tomllib

    (toml,) = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert len(parse(tomllib.loads(toml))) == 4
    assert all(f"`{name}`" in TEXT or f"{name} =" in TEXT for name in KNOWN)
    assert all(f"| {name} |" in TEXT for name in shapes.SHAPES)
    assert all(f"`{name}`" in TEXT for name in sizes.NAMED)
    assert f"{needed_for(0.99):,} requests" in TEXT
    assert f"{needed_for(0.999):,}" in TEXT

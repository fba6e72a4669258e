"""Every command that README.md shows is run here, in order, on small data in KuaiRand's layout."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)


COMMANDS = [line for block in fenced("console") for line in block.splitlines() if line.strip()]
MAKE = [line for line in COMMANDS if " make " in f" {line}"]
STEPS = [line for line in COMMANDS if line not in MAKE]


@contextmanager
def serving(command: list[str], cwd: Path) -> Iterator[str]:
    with subprocess.Popen([*command, "--json"], cwd=cwd, stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout is not None
            yield run.stdout.readline()
        finally:
            run.terminate()
            assert run.wait(20) == 0


@pytest.mark.parametrize("line", MAKE)
def test_each_make_command_is_one_that_make_knows(line: str) -> None:
    words = shlex.split(line)
    dry = subprocess.run(
        ["make", "--dry-run", *words[words.index("make") + 1 :]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.strip()


@pytest.mark.timeout(300)
def test_train_export_serve_and_ask_as_the_readme_says(
    kuairand_parquet: Path, triton_environment: object, tmp_path: Path, free_port: int
) -> None:
    assert triton_environment
    steps = [
        [str(BIN / words[0]), *words[1:]]
        for words in (
            shlex.split(line.replace("/data/log", str(kuairand_parquet)).replace(":8500", f":{free_port}"))
            for line in STEPS
        )
    ]
    assert [Path(step[0]).name for step in steps] == ["exfm-train", "exfm-export", "exfm-serve"]
    for step in steps[:2]:
        subprocess.run(step, cwd=tmp_path, check=True, capture_output=True)
    (ask,) = fenced("python")
    with serving(steps[2], tmp_path) as ready:
        assert '"ready"' in ready
        asked = subprocess.run(
            [sys.executable, "-c", ask.replace(":8500", f":{free_port}").replace("timeout_s=0.025", "timeout_s=2.0")],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert asked.returncode == 0, asked.stderr
    assert "RankedAd(ad_id=" in asked.stdout


def test_every_link_in_readme_and_docs_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"

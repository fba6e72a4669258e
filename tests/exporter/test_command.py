import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exfm.features.schema import Schema
from exporter.command import COMMANDS, main
from exporter.configure import instances_for
from exporter.home import versions_in
from exporter.lint.facts import usable_cores
from exporter.runner.aside import serves
from exporter.signing import make_key

Put = Callable[..., Path]


@pytest.fixture
def student(tiny_schema: Schema, make_checkpoint: Any, tmp_path: Path) -> Path:
    path = tmp_path / "student.pt"
    make_checkpoint(tiny_schema, "feed_long_view").save(path)
    return path


def run_json(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, Any]:
    """Exit code, and what stands on stdout, which must be one JSON object and nothing else."""
    code = main([*map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_json_says_what_was_published(student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(student), "--repository", str(tmp_path / "repository"), "--json", "--max-batch", "4", "--quick"]
    assert main(words) == 0
    printed = capsys.readouterr()
    published = json.loads(printed.out)
    assert (published["vertical"], published["version"]) == ("feed_long_view", 1)
    assert Path(published["path"]).is_dir()
    assert [step["name"] for step in published["steps"]] == [
        *("load", "convert", "profile", "verify", "configure", "package", "publish")
    ]
    assert "2/7 convert: onnx" in printed.err
    assert "engines: 100%|" in printed.err
    assert "rounds: " in printed.err
    assert "UNSIGNED" in printed.err
    assert "Warning" not in printed.err
    home = tmp_path / "repository" / "feed_long_view"
    manifest = json.loads((home / "1" / "manifest.json").read_text())
    assert manifest["batching"] == {"by": "frontend", "max_requests": 4, "instances": instances_for(usable_cores())}
    assert "max_batch_size" not in (home / "config.pbtxt").read_text()


def test_who_forms_the_batches_may_be_chosen(student: Path, tmp_path: Path) -> None:
    words = [str(student), "--repository", str(tmp_path / "repository"), "--batching", "triton", "--max-batch", "4"]
    assert main([*words, "--quick", "--cores", "4"]) == 0
    home = tmp_path / "repository" / "feed_long_view"
    assert json.loads((home / "1" / "manifest.json").read_text())["batching"]["instances"] == 5
    assert "count: 5" in (home / "config.pbtxt").read_text()
    assert json.loads((home / "1" / "manifest.json").read_text())["batching"]["by"] == "triton"
    assert "max_batch_size: 4" in (home / "config.pbtxt").read_text()
    assert main(["lint", "--repository", str(tmp_path / "repository")]) == 0


def test_publish_may_be_said_and_options_may_come_first(student: Path, tmp_path: Path) -> None:
    place = ["--repository", str(tmp_path / "repository")]
    assert main(["publish", str(student), *place, "--quick"]) == 0
    assert main([*place, "--engine", "onnx", "--metric-buckets", str(student)]) == 0
    assert "nv_inference_first_response_histogram_ms" in next(tmp_path.rglob("config.pbtxt")).read_text()
    assert versions_in(tmp_path / "repository" / "feed_long_view") == [1, 2]


def test_a_refusal_is_one_line_and_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "junk.pt").write_bytes(bytes(64))
    assert main([str(tmp_path / "junk.pt"), "--repository", str(tmp_path / "repository")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"exfm-export: {tmp_path / 'junk.pt'}: not a readable checkpoint")
    assert main([str(tmp_path / "none.pt"), "--repository", str(tmp_path)]) == 2


def test_a_refusal_is_json_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run_json(capsys, tmp_path / "none.pt", "--repository", tmp_path)
    assert (code, said["ok"], said["exit_code"]) == (2, False, 2)
    assert "none.pt" in said["error"]
    code, said = run_json(capsys, "list", "--repository", tmp_path / "missing")
    assert (code, said["ok"], said["exit_code"]) == (1, False, 1)


def test_an_unwritable_repository_is_1(student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main([str(student), "--repository", str(tmp_path / "file"), "--quick"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("exfm-export")]
    assert str(tmp_path / "file") in line


def test_an_engine_needs_what_the_server_has(student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (student, "--repository", tmp_path / "repository", "--engine", "torch", "--quick")
    code, said = run_json(capsys, *words)
    assert (code, "if it is: --server-has torch" in said["error"]) == (2, True)
    code, published = run_json(capsys, *words, "--server-has", "torch")
    assert (code, published["engine"]) == (0, "torch")


@pytest.mark.parametrize(
    "words",
    [[], ["x.pt", "--max-batch", "0"], ["x.pt", "--instances", "many"], ["x.pt", "--engine", "steam"], ["prune"]]
    + [["x.pt", "--max-ne-loss", text] for text in ("-1%", "nan", "much")],
)
def test_wrong_arguments_are_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "exit codes: 0" in text
    assert ("examples:" in text) == bool(command)
    assert all(f"  {name}" in text for name in COMMANDS) or command


def test_a_repository_is_looked_after(put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for ne in (0.9, 0.89, 0.88):
        put(tmp_path, ne=ne)
    place = ("--repository", str(tmp_path))
    code, listed = run_json(capsys, "list", *place)
    assert (code, [version["served"] for version in listed["versions"]]) == (0, [False, False, True])
    code, verified = run_json(capsys, "verify", "feed_click", *place)
    assert (code, verified["ok"], len(verified["versions"])) == (0, True, 3)
    code, difference = run_json(capsys, "diff", "feed_click/1", "feed_click/served", *place)
    assert (code, difference["quality"]["ne"]["click"]) == (0, [0.9, 0.88])
    assert run_json(capsys, "rollback", "feed_click", *place) == (
        0,
        {"vertical": "feed_click", "before": 3, "served": 2},
    )
    used = serves(str(tmp_path / "feed_click" / "1"))
    assert main(["prune", "--keep", "1", "--dry-run", *map(str, place)]) == 0
    assert capsys.readouterr().out == "feed_click: would remove nothing; kept 1, which a server still uses\n"
    pruned: dict[str, Any] = {"removed": {"feed_click": []}, "in_use": {"feed_click": [1]}, "dry_run": False}
    assert run_json(capsys, "prune", "--keep", "1", *place) == (0, pruned)
    os.close(used)
    pruned = {"removed": {"feed_click": [1]}, "in_use": {"feed_click": []}, "dry_run": False}
    assert run_json(capsys, "prune", "--keep", "1", *place) == (0, pruned)
    code, linted = run_json(capsys, "lint", *place)
    assert (code, linted["ok"]) == (0, True)
    assert main(["lint", "--file", str(tmp_path / "feed_click" / "config.pbtxt")]) == 0
    for words in (["list"], ["verify"], ["diff", "feed_click/2", "feed_click/3"], ["lint"], ["prune", "--keep", "9"]):
        assert main([*words, *place]) == 0
        assert "feed_click" in capsys.readouterr().out


def test_what_is_not_well_is_1(put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = put(tmp_path).parent
    with (home / "config.pbtxt").open("a") as config:
        config.write("# tuned\n")
    code, verified = run_json(capsys, "verify", "--repository", tmp_path)
    assert (code, verified["ok"]) == (1, False)
    code, linted = run_json(capsys, "lint", "--repository", tmp_path)
    assert (code, {"edited-by-hand"} <= {finding["rule"] for finding in linted["findings"]}) == (1, True)
    assert main(["lint", "--repository", str(tmp_path)]) == 1
    assert "how to mend:" in capsys.readouterr().out
    assert main(["verify", "--repository", str(tmp_path)]) == 1
    assert main(["rollback", "feed_click", "--to", "1", "--repository", str(tmp_path)]) == 0
    assert main(["verify", "--repository", str(tmp_path)]) == 0


def test_any_configuration_can_be_linted_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.pbtxt").write_text('name: "m" backend: "onnxruntime" instance_group { kind: KIND_GPU }')
    code, linted = run_json(capsys, "lint", "--file", tmp_path / "config.pbtxt", "--gpus", "0")
    rules = {finding["rule"] for finding in linted["findings"]}
    assert code == 1
    assert {"gpu-missing", "no-dynamic-batching", "version-not-pinned"} <= rules
    assert main(["lint", "--file", str(tmp_path / "missing")]) == 2


def test_keys_are_made_and_trusted(put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository = tmp_path / "repository"
    put(repository)
    place = ("--repository", str(repository))
    code, made = run_json(capsys, "keygen", "--trust", *place)
    assert (code, made["trusted"], made["file"]) == (0, True, str(repository / ".keys" / "signing.pem"))
    assert main(["verify", *place]) == 1  # what was there is unsigned
    assert "unsigned" in capsys.readouterr().out
    put(repository)
    code, listed = run_json(capsys, "list", *place)
    assert [version["signature"] for version in listed["versions"]] == ["refused", "signed"]
    assert main(["keygen", *place]) == 2
    code, other = run_json(capsys, "keygen", tmp_path / "release.pem", *place)
    assert (code, other["trusted"]) == (0, False)
    code, trusting = run_json(capsys, "keygen", "--trust-only", tmp_path / "release.pub.pem", *place)
    assert (code, trusting["key"], trusting["file"]) == (0, other["key"], None)
    assert len(list((repository / "trusted_keys").iterdir())) == 2


def test_keys_that_are_named_count_besides_the_repositorys(
    student: Path, signed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named, own = make_key(tmp_path / "release.pem"), signed / "trusted_keys"
    (tmp_path / "keys").mkdir()
    (tmp_path / "release.pub.pem").rename(tmp_path / "keys" / "release.pem")
    words = (student, "--repository", signed, "--quick", "--trusted-keys", tmp_path / "keys")
    code, said = run_json(capsys, *words, "--signing-key", tmp_path / "release.pem")
    assert (code, said["error"].partition(" trusts ")[0]) == (2, str(own))
    assert f"not the signing key {named.key_id}" in said["error"]
    code, said = run_json(capsys, *words)
    assert (code, said["error"].partition(" trusts ")[0]) == (2, str(tmp_path / "keys"))
    assert not (signed / "feed_long_view").exists()


@pytest.mark.parametrize(
    "words", [["rollback", "other"], ["verify", "other"], ["lint", "other"], ["diff", "a/1", "b/2"]]
)
def test_a_vertical_that_is_not_there_is_2(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--repository", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["list", "verify", "lint"])
def test_a_repository_that_is_not_there_is_1(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--repository", str(tmp_path / "missing")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_looking_needs_no_torch() -> None:
    script = (
        "import sys, exporter.command, importlib\n"
        "[importlib.import_module(f'exporter.commands.{n}') for n in exporter.command.COMMANDS "
        "if n not in ('publish', 'vendor')]\n"
        "print('torch' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=False, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.stdout == "False False\n", done.stderr

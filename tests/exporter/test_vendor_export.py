import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest

from exfm.features.schema import Schema
from exporter.command import main
from exporter.home import parse_config, versions_in
from exporter.proof import prove
from exporter.vendor_export import STEPS, export_graph

if TYPE_CHECKING:
    from exfm.models.checkpoint import Checkpoint

MODEL = "feed_click_graph"
Run = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def student(checkpoint: "Checkpoint", tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("student") / "student.pt"
    checkpoint.save(path)
    return path


@pytest.fixture
def worse(checkpoint: "Checkpoint", tmp_path: Path) -> Path:
    quality = {**checkpoint.quality, "ne": 2 * checkpoint.quality["ne"]}
    replace(checkpoint, quality=quality).save(tmp_path / "worse.pt")
    return tmp_path / "worse.pt"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`run(*words)`: exit code, and what stands on stdout, which must be one JSON object and nothing else."""

    def of(*words: str | Path) -> tuple[int, Any]:
        code = main([*map(str, words), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return of


def test_a_graph_is_published_and_scores_as_torch_does(
    run: Run, student: Path, worse: Path, signed: Path, own: Schema
) -> None:
    place = ("--repository", signed)
    code, said = run("vendor", student, *place)
    assert (code, said["vertical"], said["version"], said["engine"]) == (0, MODEL, 1, "onnxruntime")
    assert [step["name"] for step in said["steps"]] == list(STEPS)
    assert said["golden_max_abs"] <= said["parity_max_abs"] <= 1e-5
    assert (said["command"], bool(said["signed_by"])) == ([], True)

    config = parse_config((signed / MODEL / "config.pbtxt").read_bytes())
    session = onnxruntime.InferenceSession(signed / MODEL / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    with np.load(signed / MODEL / "1" / "golden.npz") as golden:
        feed = {entry.name: golden[entry.name] for entry in config.input}
        (made,) = session.run([entry.name for entry in config.output], feed)
        assert np.abs(made - golden["probability"]).max() <= 1e-5
        assert made.shape == (len(golden["owner"]), len(own.tasks))

    code, said = run("vendor", worse, *place)
    assert (code, "worse than served version 1's" in said["error"], versions_in(signed / MODEL)) == (2, True, [1])
    assert run("verify", *place)[1]["ok"]
    assert run("list", *place)[1]["versions"][0]["signature"] == "signed"
    assert run("lint", *place, "--gpus", "1") == (0, {"ok": True, "findings": []})
    assert {each["rule"] for each in run("lint", *place, "--gpus", "0")[1]["findings"]} == {"gpu-missing"}
    with (signed / MODEL / "config.pbtxt").open("a") as file:
        file.write('output { name: "unknown" data_type: TYPE_INT32 dims: [-1] }')
    assert {each["rule"] for each in run("lint", *place, "--gpus", "1")[1]["findings"]} == {"edited-by-hand", "tensors"}


def test_a_graph_is_compared_with_the_one_that_is_served_when_it_is_published(
    run: Run, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ("--repository", tmp_path / "graphs")

    def other_first(*args: Any) -> Any:
        monkeypatch.undo()
        export_graph(student, tmp_path / "graphs", "onnxruntime")
        return prove(*args)

    monkeypatch.setattr("exporter.vendor_export.prove", other_first)
    code, said = run("vendor", student, *place)
    manifest = json.loads((tmp_path / "graphs" / MODEL / "2" / "manifest.json").read_text())
    assert (code, said["version"], said["comparison"]["version"], manifest["replaces"]) == (0, 2, 1, 1)
    assert manifest["lineage"]["compared_with"] == said["comparison"]


def test_a_plan_is_made_where_it_serves_and_is_nobodys_word(
    run: Run, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ("--repository", tmp_path / "graphs")
    code, said = run("vendor", student, *place, "--backend", "tensorrt", "--instances", "4")
    assert (code, said["engine"], said["command"][:2]) == (0, "tensorrt", ["trtexec", "--onnx=model.onnx"])
    home = Path(said["path"])

    def rules() -> list[str]:
        return [each["rule"] for each in run("lint", *place, "--gpus", "1")[1]["findings"]]

    assert rules() == ["model-file-missing"]
    session = onnxruntime.InferenceSession(home / "model.onnx", providers=["CPUExecutionProvider"])
    widths = {entry.name: entry.shape[1:] for entry in session.get_inputs()}
    for bound in (word for word in said["command"] if "Shapes=" in word):
        shapes = dict(part.split(":") for part in bound.partition("=")[2].split(","))
        assert {name: [int(n) for n in shape.split("x")[1:]] for name, shape in shapes.items()} == widths

    (tmp_path / "trtexec").write_text(
        "#!/bin/sh\nfor word; do case $word in --saveEngine=*) echo $0 > ${word#*=};; esac; done"
    )
    (tmp_path / "trtexec").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    subprocess.run(["sh", str(home / "trtexec.sh")], check=True)
    assert {path.name for path in home.glob("model.*")} == {"model.onnx", "model.plan"}
    assert (rules(), run("verify", *place)[1]["ok"]) == ([], True)
    (home / "model.bin").touch()
    assert not run("verify", *place)[1]["ok"]


@pytest.mark.parametrize("below", ["", "feed_click", "graphs/deep"])
def test_a_repository_that_the_frontend_serves_is_refused(
    run: Run, put: Callable[..., Path], student: Path, tmp_path: Path, below: str
) -> None:
    put(tmp_path)
    code, said = run("vendor", student, "--repository", tmp_path / below)
    assert (code, "is a model that the frontend serves" in said["error"]) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["feed_click"]
    assert versions_in(tmp_path / "feed_click") == [1]


def test_a_model_for_the_frontend_is_refused_beside_graphs(run: Run, student: Path, tmp_path: Path) -> None:
    assert run("vendor", student, "--repository", tmp_path)[0] == 0
    code, said = run("publish", student, "--repository", tmp_path, "--quick")
    assert (code, "is a graph for Triton's own backends" in said["error"]) == (2, True)
    assert not (tmp_path / "feed_click").exists()
    encoder = tmp_path / "encode" / "config.pbtxt"  # a Python model of somebody else's, which no frontend serves
    encoder.parent.mkdir()
    encoder.write_text('name: "encode"\nbackend: "python"\n', encoding="utf-8")
    assert run("vendor", student, "--repository", tmp_path)[0] == 0

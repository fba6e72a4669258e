import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from exfm.features.schema import Schema
from exfm.models.checkpoint import Checkpoint
from exporter.compare import QualityGate
from exporter.errors import ExportRefusedError, VersionError
from exporter.export import export
from exporter.home import versions_in
from exporter.integrity import check_version, hashes_of
from exporter.itinerary import STEPS
from exporter.options import ExportOptions
from exporter.proof import prove
from exporter.signing import load_trusted
from exporter.verify import torch_probability

VERTICAL = "feed_click"
QUICK = ExportOptions(buckets=(1,))
QUALITY = {"auc": 0.7, "ne": 0.9, "tasks": {"like": {"ne": 0.8}}}


def refuse(checkpoint: Checkpoint, folder: Path, match: str) -> None:
    """Export must refuse, and leave nothing in the repository."""
    path = folder / "student.pt"
    checkpoint.save(path)
    with pytest.raises(ExportRefusedError, match=match):
        export(path, folder / "repository")
    assert not (folder / "repository").exists() or not list((folder / "repository").iterdir())


def test_a_version_holds_what_serving_reads(published_repository: Path, tiny_schema: Schema) -> None:
    own = tiny_schema.for_vertical(VERTICAL)
    folder = published_repository / VERTICAL / "1"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["files"] == hashes_of(folder)
    assert {"model.py", "model.onnx", "schema.json", "prior.npz", "golden.npz"} <= set(manifest["files"])
    assert "exfm/features/encoding.py" in manifest["files"]
    assert manifest["schema_hash"] == own.digest == Schema.load(folder / "schema.json").digest
    assert (manifest["version"], manifest["vertical"], manifest["tasks"]) == (1, VERTICAL, ["click", "like"])
    assert (manifest["budget_ms"], manifest["max_candidates"]) == (250.0, 500)
    assert manifest["parity"]["max_abs"] <= manifest["parity"]["bound"] == 1e-5
    assert manifest["engine"] == "onnx"
    assert set(manifest["profile"]["buckets"]) >= {"1", "200", "500"}
    assert [trial["engine"] for trial in manifest["trials"]] == ["onnx"]
    assert manifest["parameters"] > 0
    assert manifest["quality"] == {"auc": 0.7, "ne": 0.9}
    assert manifest["lineage"]["teacher"] == "none"
    assert {"name": "candidate_ids", "dtype": "int64", "width": 2} in manifest["tensors"]


def test_golden_and_prior(published_repository: Path) -> None:
    with np.load(published_repository / VERTICAL / "1" / "golden.npz") as golden:
        assert golden["probability"].dtype == np.float32
        assert golden["probability"].shape == (64, 2)
        assert golden["candidate_ids"].shape == (64, 2)
    with np.load(published_repository / VERTICAL / "1" / "prior.npz") as prior:
        assert (prior["ad"].dtype, prior["probability"].shape, prior["default"].shape) == (np.int64, (20, 2), (2,))


def test_config_is_tritons_own_message(published_repository: Path, tiny_schema: Schema) -> None:
    text = (published_repository / VERTICAL / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert config.parameters["schema_hash"].string_value == tiny_schema.for_vertical(VERTICAL).digest
    assert list(config.version_policy.specific.versions) == [1]


def test_the_graph_holds_the_student_and_nothing_else(published_repository: Path, checkpoint: Checkpoint) -> None:
    graph = onnx.load(published_repository / VERTICAL / "1" / "model.onnx").graph
    weights = {
        w.name.removeprefix("student."): w.dims for w in graph.initializer if w.data_type == onnx.TensorProto.FLOAT
    }
    assert weights == {name: list(weight.shape) for name, weight in checkpoint.state.items()}


def test_the_next_export_is_the_next_version(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "student.pt")
    said: list[str] = []
    made = [export(tmp_path / "student.pt", tmp_path / "repository", QUICK, said.append) for _ in "ab"]
    assert [published.version for published in made] == [1, 2]
    assert [step.name for step in made[0].steps] == list(STEPS)
    assert [line.split()[1] for line in said if line[:2] in [f"{n}/" for n in range(1, 8)]][:7] == [
        f"{name}:" for name in STEPS
    ]
    assert any("UNSIGNED" in line for line in said)
    assert "versions: 2" in (tmp_path / "repository" / VERTICAL / "config.pbtxt").read_text()
    assert {entry.name for entry in (tmp_path / "repository").iterdir()} == {VERTICAL}


def test_a_wukong_student_is_exported(tiny_schema: Schema, make_checkpoint: Any, tmp_path: Path) -> None:
    make_checkpoint(tiny_schema, VERTICAL, backbone="wukong").save(tmp_path / "student.pt")
    assert export(tmp_path / "student.pt", tmp_path / "repository", QUICK).parity_max_abs <= 1e-5


def test_a_teacher_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    refuse(replace(checkpoint, kind="teacher"), tmp_path, "a teacher's checkpoint")


def test_training_only_weights_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    state = {**checkpoint.state, "auxiliary.weight": torch.zeros(3)}
    refuse(replace(checkpoint, state=state), tmp_path, r"auxiliary\.weight")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(checkpoint: Checkpoint, tmp_path: Path, value: float) -> None:
    state = {**checkpoint.state, "head.bias": torch.tensor([value, 0.0])}
    refuse(replace(checkpoint, state=state), tmp_path, r"head\.bias holds a value that is not finite")


def test_a_missing_schema_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "whole.pt")
    raw = torch.load(tmp_path / "whole.pt", weights_only=True)
    del raw["schema"]
    torch.save(raw, tmp_path / "student.pt")
    with pytest.raises(ExportRefusedError, match=r"student\.pt: .*'schema'"):
        export(tmp_path / "student.pt", tmp_path / "repository")


def test_the_whole_schema_is_refused(checkpoint: Checkpoint, tiny_schema: Schema, tmp_path: Path) -> None:
    refuse(replace(checkpoint, schema=tiny_schema), tmp_path, "schema: speaks of feed_click, feed_long_view")


def test_other_tasks_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    refuse(replace(checkpoint, tasks=("click", "buy")), tmp_path, "tasks: ")


def test_priors_are_checked(checkpoint: Checkpoint, tmp_path: Path) -> None:
    assert checkpoint.prior is not None
    refuse(replace(checkpoint, prior=None), tmp_path, "prior: the checkpoint has none")
    backward = replace(checkpoint.prior, ad=checkpoint.prior.ad[::-1].copy())
    refuse(replace(checkpoint, prior=backward), tmp_path, "prior: ad keys must ascend")
    outside = replace(checkpoint.prior, default=checkpoint.prior.default + np.float32(1))
    refuse(replace(checkpoint, prior=outside), tmp_path, r"prior: a probability is outside \[0, 1\]")
    narrow = replace(checkpoint.prior, default=checkpoint.prior.default[:1].copy())
    refuse(replace(checkpoint, prior=narrow), tmp_path, "2 tasks")


def test_golden_requests_are_checked(checkpoint: Checkpoint, tmp_path: Path) -> None:
    refuse(replace(checkpoint, golden={}), tmp_path, "golden: has")
    for name, bad in (
        ("candidate_ids", checkpoint.golden["candidate_ids"][:, :1].copy()),
        ("candidate_numbers", checkpoint.golden["candidate_numbers"][:7].copy()),
        ("request_ids", np.repeat(checkpoint.golden["request_ids"], 2, axis=0)),
        ("request_numbers", checkpoint.golden["request_numbers"].astype(np.float64)),
    ):
        refuse(replace(checkpoint, golden={**checkpoint.golden, name: bad}), tmp_path, f"golden: {name}")


def test_parity_beyond_the_bound_publishes_nothing(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A staged version that answers otherwise than torch, however it came about."""

    def wrong(*args: Any) -> np.ndarray:
        return torch_probability(*args) + np.float32(2e-5)

    monkeypatch.setattr("exporter.proof.torch_probability", wrong)
    refuse(checkpoint, tmp_path, "parity: the golden request alone is off by 2.*e-05; the bound is 1e-05")


def test_a_worse_student_is_refused_and_allowed_only_by_name(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path, repository = tmp_path / "student.pt", tmp_path / "repository"
    checkpoint.save(path)
    export(path, repository, QUICK)
    replace(checkpoint, quality={"auc": 0.7, "ne": 0.91}).save(path)
    with pytest.raises(ExportRefusedError, match=r"quality: NE of click is 1\.11% worse than served version 1's"):
        export(path, repository, QUICK)
    assert versions_in(repository / VERTICAL) == [1]
    published = export(path, repository, replace(QUICK, gate=QualityGate(allow_worse=True)))
    lineage = json.loads((published.path / "manifest.json").read_text())["lineage"]
    assert lineage["compared_with"]["version"] == 1
    assert lineage["compared_with"]["ne_loss"]["click"] == pytest.approx(0.91 / 0.9 - 1)
    assert "worse" in lineage["compared_with"]["excuse"]


def test_a_tampered_served_version_stops_the_next_one(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path, repository = tmp_path / "student.pt", tmp_path / "repository"
    checkpoint.save(path)
    served = export(path, repository, QUICK).path
    (served / "prior.npz").chmod(0o644)
    (served / "prior.npz").write_bytes(b"tampered")
    with pytest.raises(VersionError, match=r"prior\.npz: sha256"):
        export(path, repository, QUICK)
    assert versions_in(repository / VERTICAL) == [1]


def test_a_version_published_meanwhile_is_compared_with_too(
    checkpoint: Checkpoint, put: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, repository = tmp_path / "student.pt", tmp_path / "repository"
    replace(checkpoint, quality=QUALITY).save(path)

    def other_first(*args: Any) -> Any:
        monkeypatch.undo()
        put(repository, ne=0.5)
        return prove(*args)

    monkeypatch.setattr("exporter.export.prove", other_first)
    with pytest.raises(ExportRefusedError, match="worse than served version 1's"):
        export(path, repository, QUICK)
    assert versions_in(repository / VERTICAL) == [1]


@pytest.mark.parametrize(("ne", "allow_worse"), [(0.899, False), (0.5, True)])
def test_lineage_names_the_version_that_is_served_when_it_is_published(
    checkpoint: Checkpoint,
    put: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    ne: float,
    allow_worse: bool,
) -> None:
    path, repository = tmp_path / "student.pt", tmp_path / "repository"
    replace(checkpoint, quality=QUALITY).save(path)
    put(repository)

    def other_first(*args: Any) -> Any:
        monkeypatch.undo()
        put(repository, ne=ne)
        return prove(*args)

    monkeypatch.setattr("exporter.export.prove", other_first)
    said: list[str] = []
    published = export(path, repository, replace(QUICK, gate=QualityGate(allow_worse=allow_worse)), said.append)
    manifest = json.loads((published.path / "manifest.json").read_text())
    compared = manifest["lineage"]["compared_with"]
    assert compared["version"] == manifest["replaces"] == published.comparison.version == 2
    assert compared["ne_loss"]["click"] == pytest.approx(0.9 / ne - 1)
    assert manifest["lineage"]["teacher"] == "none"
    assert any("served by now: 2" in line for line in said)
    assert ("worse than served version 2" in compared["excuse"]) == allow_worse
    assert [text for text in published.warnings if "worse" in text] == (
        [f"PUBLISHED ALL THE SAME: {compared['excuse']}"] if allow_worse else []
    )


def test_a_trusting_repository_gets_a_signed_version(checkpoint: Checkpoint, signed: Path, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "student.pt")
    published = export(tmp_path / "student.pt", signed, QUICK)
    assert published.signed_by in load_trusted(signed).keys
    assert check_version(published.path, load_trusted(signed)).signature == "signed"
    assert published.warnings == []
    (signed / ".keys" / "signing.pem").unlink()
    with pytest.raises(ExportRefusedError, match="no signing key was given"):
        export(tmp_path / "student.pt", signed, QUICK)
    assert versions_in(signed / VERTICAL) == [1]

"""A model that a user wrote, published by the documented protocol and asked through a real Triton."""

import hashlib
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
import tritonclient.grpc as triton_grpc

from exfm.features.schema import HistorySpec, Schema
from exfm.features.signature import PROBABILITY
from exporter.command import main
from exporter.errors import ExportRefusedError
from exporter.factory import build_model
from exporter.golden import encode_batch
from exporter.home import served_version
from exporter.own_loading import load_own
from exporter.own_model import OwnFiles
from exporter.verify import check_open

if TYPE_CHECKING:
    from serving.embedded.environment import TritonEnvironment

VERTICAL = "feed_click"
DEEPFM = """
import torch
from torch import nn


class DeepFM(nn.Module):
    def __init__(self, rows, fields, tasks, dimension=4, hidden=16):
        super().__init__()
        self.linear = nn.Embedding(rows, tasks)
        self.embedding = nn.Embedding(rows, dimension)
        self.deep = nn.Sequential(
            nn.Linear(fields * dimension, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(hidden, tasks),
        )

    def forward(self, request_rows, candidate_rows, owner):
        rows = torch.cat([request_rows[owner], candidate_rows], dim=1)
        embedded = self.embedding(rows)
        pairs = (embedded.sum(1).square() - embedded.square().sum(1)).sum(1, keepdim=True) / 2
        return self.linear(rows).sum(1) + pairs + self.deep(embedded.flatten(1))


def build(schema):
    return DeepFM(schema.rows, len(schema.ordered), len(schema.tasks))
"""
WRONG = """
import torch
from deepfm import DeepFM, build

print("loading")
answer = 42


def number(schema):
    return 3


def clumsy(schema):
    return DeepFM(schema.rows, len(schema.ordered))


class OneTask(DeepFM):
    def forward(self, request_rows, candidate_rows, owner):
        return super().forward(request_rows, candidate_rows, owner)[:, 0]


class Sigmoid(DeepFM):
    def forward(self, request_rows, candidate_rows, owner):
        return torch.sigmoid(super().forward(request_rows, candidate_rows, owner))


class Mixing(DeepFM):
    def forward(self, request_rows, candidate_rows, owner):
        made = super().forward(request_rows, candidate_rows, owner)
        return made - made.mean()


class Small(DeepFM):
    def forward(self, request_rows, candidate_rows, owner):
        return super().forward(request_rows + 10_000, candidate_rows, owner)


def of(kind):
    return lambda schema: kind(schema.rows, len(schema.ordered), len(schema.tasks))


one_task, sigmoid, mixing, small = of(OneTask), of(Sigmoid), of(Mixing), of(Small)
"""
SPLIT = '''
import torch
from torch import nn


class SplitFM(nn.Module):
    """Its first-order weight is the last column of the table."""

    def __init__(self, schema):
        super().__init__()
        self.table = nn.Embedding(schema.rows, 5)
        self.deep = nn.Linear(4 * len(schema.ordered), len(schema.tasks))

    def forward(self, request_rows, candidate_rows, owner):
        return self.score(self.table(request_rows)[owner], self.table(candidate_rows))

    def score_one_request(self, request, candidate):
        return self.score(request.expand(candidate.shape[0], -1, -1), candidate)

    def score(self, request, candidate):
        rows = torch.cat([request, candidate], dim=1)
        return rows[:, :, 4].sum(1, keepdim=True) + self.deep(rows[:, :, :4].flatten(1))
'''

PAST = """
import torch
from torch import nn


class Past(nn.Module):
    def __init__(self, schema):
        super().__init__()
        self.last = nn.Linear(schema.history.width, len(schema.tasks))

    def forward(self, request_rows, candidate_rows, owner, history):
        return self.last(torch.tanh(history))[owner]
"""


def write_golden(path: Path, module: Any, schema: Schema, make_request: Any, **changed: Any) -> None:
    """Three requests, what the module answers to them, and outcomes; changed arrays last, None leaves one out."""
    requests = [make_request(schema, size, seed) for seed, size in enumerate((40, 1, 30))]
    owner = np.repeat(np.arange(3), (40, 1, 30))
    tensors = {name: np.concatenate([request[name] for request in requests]) for name in requests[0]}
    batch = encode_batch(schema, tensors, owner)
    with torch.no_grad():
        parts = (batch.request_rows, batch.candidate_rows, batch.owner, batch.history)
        rows = (torch.from_numpy(part) for part in parts if part is not None)
        probability = torch.sigmoid(module.eval()(*rows)).numpy()
    label = (np.random.default_rng(0).random(probability.shape) < probability).astype(np.float32)
    arrays = {**tensors, "owner": owner, "probability": probability, "label": label, **changed}
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


@pytest.fixture(scope="module")
def files(tiny_schema: Schema, make_request: Any, tmp_path_factory: pytest.TempPathFactory) -> OwnFiles:
    """What the user has: two modules of Python, a trained DeepFM's weights, the schema and a golden batch."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in (("deepfm.py", DEEPFM), ("wrong.py", WRONG), ("splitfm.py", SPLIT)):
        (folder / name).write_text(text)
    (folder / "schema.json").write_text(json.dumps(tiny_schema.to_dict()))
    own = tiny_schema.for_vertical(VERTICAL)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module: Any = build_model(f"{folder}/deepfm.py:build", own)
        for table in (module.linear, module.embedding):
            table.weight.data.mul_(0.3)
        for batch in torch.randn(20, 64, 16):
            module.deep[1](batch)  # moves the running statistics, as training does
    torch.save(module.state_dict(), folder / "weights.pt")
    write_golden(folder / "golden.npz", module, own, make_request)
    return OwnFiles(
        f"{folder}/deepfm.py:build", folder / "weights.pt", folder / "schema.json", folder / "golden.npz", VERTICAL
    )


def words(files: OwnFiles, repository: Path) -> list[str]:
    named = [f"--{name}={value}" for name, value in vars(files).items() if value]
    return [*named, "--repository", str(repository), "--quick"]


@pytest.fixture(scope="module")
def published(files: OwnFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the DeepFM as version 1."""
    repository = tmp_path_factory.mktemp("own") / "repository"
    assert main([*words(files, repository), "--instances", "1"]) == 0
    return repository


def test_a_users_deepfm_is_served(
    published: Path, files: OwnFiles, triton_environment: "TritonEnvironment", tmp_path: Path
) -> None:
    from serving.embedded.process import EmbeddedTriton

    golden = dict(np.load(files.golden))
    expected, _ = golden.pop(PROBABILITY), golden.pop("label")
    sent = []
    for name, value in golden.items():
        kind = "INT64" if value.dtype == np.int64 else "FP32"
        sent.append(triton_grpc.InferInput(name, list(value.shape), kind).set_data_from_numpy(value))
    log = tmp_path / "triton.log"
    with (
        EmbeddedTriton(triton_environment, published, (VERTICAL,), log) as triton,
        triton_grpc.InferenceServerClient(triton.address) as client,
    ):
        answer = client.infer(VERTICAL, sent, model_version="1", client_timeout=10.0).as_numpy(PROBABILITY)
    assert expected.std() > 0.01
    assert np.abs(answer - expected).max() <= 1e-5


def test_its_version_is_like_any_other(published: Path, files: OwnFiles, tiny_schema: Schema) -> None:
    from serving.repository import load_catalog

    manifest = json.loads((published / VERTICAL / "1" / "manifest.json").read_text())
    assert (manifest["engine"], manifest["parity"]["bound"]) == ("onnx", 1e-5)
    assert manifest["schema_hash"] == tiny_schema.for_vertical(VERTICAL).digest
    assert manifest["lineage"]["model"] == "own model"
    assert manifest["lineage"]["weights_sha256"] == hashlib.sha256(files.weights.read_bytes()).hexdigest()
    assert manifest["quality"]["ne"] > 0
    assert manifest["quality"]["tasks"]["like"]["ne"] > 0
    assert manifest["quality"]["from"] == "the golden batch's outcomes"
    assert not [name for name in manifest["files"] if "deepfm" in name]
    assert main(["verify", "--repository", str(published)]) == 0
    vertical = load_catalog(published)[VERTICAL]
    assert vertical.golden.probability.shape == (40, 2)
    with np.load(files.golden) as golden:
        assert vertical.prior.default == pytest.approx(golden["probability"].mean(0))


def test_quality_and_prior_may_be_stated_and_the_gate_holds(
    published: Path, files: OwnFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "quality.json").write_text('{"ne": 9.5, "tasks": {"like": {"ne": 0.9}}}')
    arrays: dict[str, Any] = {
        "ad": np.array([3, 9]),
        "probability": np.full((2, 2), 0.1, np.float32),
        "default": np.full(2, 0.2, np.float32),
    }
    np.savez(tmp_path / "prior.npz", **arrays)
    stated = replace(files, quality=tmp_path / "quality.json", prior=tmp_path / "prior.npz")
    checkpoint, _ = load_own(stated)
    assert checkpoint.quality["from"].startswith("stated")
    assert checkpoint.prior is not None
    assert checkpoint.prior.ad.tolist() == [3, 9]
    assert main(words(stated, published)) == 2
    assert "worse than served version 1's" in capsys.readouterr().err.splitlines()[-1]
    assert served_version(published / VERTICAL) == 1


def test_a_model_that_says_what_its_table_is_gets_the_row_engines(
    files: OwnFiles, tiny_schema: Schema, make_request: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from exporter.engines.table import choose_engine

    own, spec = tiny_schema.for_vertical(VERTICAL), f"{files.weights.parent}/splitfm.py:SplitFM"
    module = build_model(spec, own)
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    write_golden(tmp_path / "golden.npz", module, own, make_request)
    split = replace(files, model=spec, weights=tmp_path / "weights.pt", golden=tmp_path / "golden.npz")
    (tmp_path / "version").mkdir()
    choice = choose_engine(*load_own(split), tmp_path / "version", engines=("onnx_rows_fp32",), buckets=(1,))
    assert (choice.engine, choice.parity <= 1e-5) == ("onnx_rows_fp32", True)
    assert np.load(tmp_path / "version" / "rows.npy").shape == (own.rows, 5)
    assert main([*words(files, tmp_path / "repository"), "--engine", "onnx_rows_fp32"]) == 2
    assert "the model does not take gathered rows" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("deepfm.py", r"'deepfm.py' is neither FILE.py:FACTORY nor"),
        ("none.py:build", r"none\.py: no such file"),
        ("nothing.here:build", r"ModuleNotFoundError: No module named 'nothing'"),
        ("{}/deepfm.py:biuld", r"deepfm\.py has no function or class 'biuld'"),
        ("{}/wrong.py:answer", r"wrong\.py has no function or class 'answer'"),
        ("{}/wrong.py:number", r"wrong\.py:number returned int, not a torch\.nn\.Module"),
        ("{}/wrong.py:clumsy", r"TypeError: .*missing 1 required positional argument: 'tasks'"),
        ("{}/wrong.py:one_task", r"forward returned torch.float32 \[785\] for 785 .* click, like; .* \[785, 2\]"),
        ("{}/wrong.py:sigmoid", r"golden: the model's .* expected is .*; forward must return logits"),
        ("{}/wrong.py:mixing", r"probabilities depend on what it is batched with"),
        ("{}/wrong.py:small", r"forward\(torch.int64 \[6, 6\], .*\): IndexError: index out of range"),
    ],
)
def test_a_wrong_model_is_one_clear_line(
    files: OwnFiles, model: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = replace(files, model=model.format(files.weights.parent))
    with pytest.raises(ExportRefusedError, match=says) as refused:
        load_own(wrong)
    capsys.readouterr()
    assert main(words(wrong, tmp_path / "repository")) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()[-1]) == ("", f"exfm-export: {refused.value}")
    assert not (tmp_path / "repository").exists()


def changed_golden(name: str, value: Any) -> Any:
    return lambda arrays: {**arrays, name: value(arrays[name])}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed_golden("probability", lambda p: p * np.float32(0.9)), r"model's \w+ of row \d+ is 0.* 1e-05$"),
        (changed_golden("candidate_ids", lambda ids: ids[:, ::-1].copy()), r"the model's"),
        (changed_golden("candidate_ids", lambda ids: ids[:, :1]), r"candidate_ids is int64 \[71, 1\], .* \[71, 2\]"),
        (changed_golden("request_numbers", lambda v: v.astype(float)), r"request_numbers is float64 .* float32"),
        (changed_golden("request_numbers", lambda v: v * np.float32("nan")), r"request_numbers holds .* not finite"),
        (changed_golden("owner", lambda owner: owner[::-1].copy()), r"owner does not say whose of 3 requests"),
        (changed_golden("probability", lambda p: p - np.float32(1)), r"probability holds a value outside \[0, 1\]"),
        (changed_golden("label", lambda label: label + np.float32(1)), r"label holds a value that is neither"),
        (changed_golden("label", lambda label: label * 0), r"quality: .*golden.npz's label gives no finite ne of clic"),
        (lambda arrays: {n: v for n, v in arrays.items() if n != "label"}, r"quality: put outcomes into the golden"),
        (lambda arrays: {n: v for n, v in arrays.items() if n != "request_ids"}, r"lacks request_ids, of candidate_"),
        (lambda arrays: {**arrays, "zebra": arrays["owner"]}, r"zebra is no tensor of the schema"),
    ],
)
def test_a_wrong_golden_batch_is_refused(files: OwnFiles, change: Any, says: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "golden.npz", **change(dict(np.load(files.golden))))
    with pytest.raises(ExportRefusedError, match=says):
        load_own(replace(files, golden=tmp_path / "golden.npz"))


def test_wrong_files_are_refused(files: OwnFiles, make_checkpoint: Any, tiny_schema: Schema, tmp_path: Path) -> None:
    weights = torch.load(files.weights, weights_only=True)
    student, path = make_checkpoint(tiny_schema, VERTICAL), tmp_path / "weights.pt"

    def refused(match: str, **changed: Any) -> None:
        with pytest.raises(ExportRefusedError, match=match):
            load_own(replace(files, **changed))

    replace(student, kind="teacher").save(path)
    refused("this is a teacher's checkpoint; only students are served", weights=path)
    student.save(path)
    refused("this is a student's checkpoint; publish it without --model", weights=path)
    for bad, match in (
        ({**weights, "linear.weight": weights["linear.weight"] * float("nan")}, "linear.weight holds a value that is"),
        ({**weights, "more": torch.zeros(1)}, 'Unexpected key.*"more"'),
        ({"model": weights}, "no state dict"),
    ):
        torch.save(bad, path)
        refused(match, weights=path)
    path.write_bytes(b"junk")
    refused("not readable", weights=path)
    refused("No such file", schema=tmp_path / "none.toml")
    refused("has several verticals, --vertical says which: feed_click, feed_long_view", vertical="")
    refused("has no vertical 'feed'", vertical="feed")
    refused("golden: .*: not a readable .npz", golden=path)
    refused("quality: .*: Expecting value", quality=path)
    refused("prior: ", prior=path)
    for text, match in (
        ('{"ne": 0.9, "tasks": ["like"]}', "quality: .*: expected"),
        ('{"ne": NaN}', "quality: .*: NaN is no figure"),
        ('{"ne": 0.9}', r"quality: .* gives no finite ne of like"),
    ):
        path.write_text(text)
        refused(match, quality=path)


def test_arguments_must_fit_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, says in (
        (["student.pt", "--golden", "g.npz"], "--golden: is of a model of your own, and takes no CHECKPOINT beside it"),
        (["--model", "m.py:build", "--weights", "w.pt"], "--schema: is missing; a model of your own needs --model, "),
        (["--quick"], "neither CHECKPOINT nor --model was given"),
    ):
        assert main([*given, "--repository", str(tmp_path)]) == 2
        assert says in capsys.readouterr().err.splitlines()[-1]


def test_a_history_is_a_fourth_argument(
    files: OwnFiles, tiny_schema: Schema, make_request: Any, tmp_path: Path
) -> None:
    """Here of a module that only looks at it."""
    (tmp_path / "past.py").write_text(PAST)
    past = replace(tiny_schema, history=HistorySpec(length=2, dimension=3))
    (tmp_path / "schema.json").write_text(json.dumps(past.to_dict()))
    own, spec = past.for_vertical(VERTICAL), f"{tmp_path}/past.py:Past"
    module = build_model(spec, own)
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    write_golden(tmp_path / "golden.npz", module, own, make_request)
    given = OwnFiles(spec, tmp_path / "weights.pt", tmp_path / "schema.json", tmp_path / "golden.npz", VERTICAL)
    checkpoint, _ = load_own(given)
    assert checkpoint.golden["request_history"].shape == (1, 10)
    with pytest.raises(ExportRefusedError, match=r"forward\(.*float32 \[6, 10\]\): TypeError: .*positional arguments"):
        load_own(replace(given, model=files.model, weights=files.weights))


@pytest.mark.parametrize("rows", ["requests", 3])
def test_a_graph_of_fixed_size_is_refused(rows: str | int) -> None:
    """What a loop over requests is converted to."""
    entry = onnx.helper.make_tensor_value_info("request_rows", onnx.TensorProto.INT64, [rows, 6])
    graph = onnx.helper.make_model(onnx.helper.make_graph([], "g", [entry], []))
    fixed = pytest.raises(ExportRefusedError, match="request_rows became fixed at 3 rows: forward loops over them")
    with fixed if rows == 3 else nullcontext():
        check_open(graph)

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from exfm.data.source import Source
from exfm.distill.config import HistoryOptions, TrainConfig
from exfm.distill.learners import StudentLearner
from exfm.distill.scoring import TrainingReport
from exfm.distill.trainer import TrainingError
from exfm.distill.training import train
from exfm.features.encoding import Encoder
from exfm.features.history import History
from exfm.features.schema import HistorySpec
from exfm.features.signature import HISTORY, tensors_of
from exfm.models.backbone import ModelError
from exfm.models.checkpoint import load_checkpoint

Make = Callable[..., Source]


@pytest.fixture
def run(tiny: Make, config: TrainConfig, tmp_path: Path) -> tuple[Source, TrainingReport, Path]:
    source = tiny(600)
    return source, train(source, config, tmp_path / "run"), tmp_path / "run"


def test_everything_is_written(run: tuple[Source, TrainingReport, Path]) -> None:
    _, report, out = run
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    students = {f"students/{name}.pt" for name in ("clicks", "clicks.lite", "buys", "buys.lite")}
    assert names == {"teacher.pt", *students, "metrics.json", "learning.png"}
    assert json.loads((out / "metrics.json").read_text()) == report.to_dict()
    assert (out / "learning.png").read_bytes().startswith(b"\x89PNG")


def test_a_students_checkpoint_has_all_that_export_needs(run: tuple[Source, TrainingReport, Path]) -> None:
    source, report, out = run
    made, teacher = load_checkpoint(out / "students" / "buys.pt"), load_checkpoint(out / "teacher.pt")
    assert made.schema == source.schema.for_vertical("buys")
    assert made.tasks == ("buy",)
    assert made.prior is not None
    np.testing.assert_array_equal(made.prior.ad, source.ads.key)
    assert made.quality["auc"] == report.verticals["buys"]["buy"].auc
    assert {"auc", "ne", "calibration"} <= set(made.quality)
    assert made.lineage["data"] == "tiny"
    assert str(made.lineage["teacher_snapshot"]).startswith("tiny-6-")
    assert made.lineage["last_ms"] == source.examples.time_ms[-1]
    assert teacher.tasks == ("click", "buy")
    teacher.build()


def test_a_lite_students_checkpoint_differs_in_the_model_and_the_name_alone(
    run: tuple[Source, TrainingReport, Path],
) -> None:
    _, report, out = run
    full, lite = (load_checkpoint(out / "students" / f"buys{end}") for end in (".pt", ".lite.pt"))
    assert lite.vertical == "buys_lite"
    assert (lite.lineage["tier"], lite.lineage["serves"]) == ("lite", "buys")
    assert "tier" not in full.lineage
    assert [vertical.name for vertical in lite.schema.verticals] == ["buys_lite"]
    assert lite.schema.digest == full.schema.digest
    for name, tensor in full.golden.items():
        np.testing.assert_array_equal(lite.golden[name], tensor)
    count, most = (sum(weight.numel() for weight in made.build().state_dict().values()) for made in (lite, full))
    assert count < most
    assert lite.quality["ne"] == report.verticals["buys"]["buy"].lite_ne
    assert lite.quality["full_ne"] == full.quality["ne"]


def test_the_golden_request_is_a_real_one_that_the_student_can_score(
    run: tuple[Source, TrainingReport, Path],
) -> None:
    source, _, out = run
    made = load_checkpoint(out / "students" / "clicks.pt")
    assert set(made.golden) == {tensor.name for tensor in tensors_of(made.schema)}
    assert made.golden["request_ids"].shape == (1, 2)
    assert made.golden["candidate_ids"].shape == (64, 2)
    assert len(set(made.golden["candidate_ids"][:, 0])) == 64
    assert made.golden["request_ids"][0, 0] in source.examples.user
    encoder, golden = Encoder(made.schema), made.golden
    nothing = np.empty((1, 0), np.float32)
    user = encoder.encode("user", golden["request_ids"][:, :1], golden["request_numbers"]).rows
    context = encoder.encode("context", golden["request_ids"][:, 1:], nothing).rows
    ads = encoder.encode("ad", golden["candidate_ids"], golden["candidate_numbers"]).rows
    request = torch.from_numpy(np.concatenate([user, context], 1))
    logits = made.build_student()(request, torch.from_numpy(ads), torch.zeros(64, dtype=torch.int64))
    assert torch.isfinite(logits).all()
    assert logits.std() > 0


def test_exported_weights_are_the_averaged_ones_at_the_end(
    tiny: Make, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learners: list[StudentLearner] = []
    init = StudentLearner.__init__

    def watched(self: StudentLearner, *args: object, **kwargs: object) -> None:
        learners.append(self)
        init(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(StudentLearner, "__init__", watched)
    train(tiny(300), config, tmp_path)
    live, averaged = learners[0].model.state_dict(), learners[0].state()
    saved = load_checkpoint(tmp_path / "students" / "clicks.pt").state
    assert all(torch.equal(saved[name], averaged[name]) for name in averaged)
    assert not torch.equal(live["head.weight"], averaged["head.weight"])


def test_students_learn_something(tiny: Make, config: TrainConfig) -> None:
    report = train(tiny(3000), config)
    clicks = report.verticals["clicks"]["click"]
    assert clicks.auc is not None
    assert clicks.teacher_auc is not None
    assert clicks.ne is not None
    assert clicks.bayes_ne is not None
    assert clicks.auc > 0.6
    assert clicks.teacher_auc > 0.6
    assert clicks.bayes_ne < clicks.ne < 1.0


def test_the_callers_random_state_is_left_alone(tiny: Make, config: TrainConfig) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    train(tiny(100), config)
    assert torch.equal(torch.rand(1), expected)


@pytest.fixture
def past(tiny: Make) -> Source:
    """A log whose rows have embeddings."""
    source = tiny(600)
    codes = np.random.default_rng(0).integers(0, 256, (600, 8)).astype(np.uint8)
    every = np.ones(600, np.uint32)
    events = History(source.examples.time_ms, np.arange(600, dtype=np.uint64), every, codes, 8, "int8")
    return replace(source, events=events)


def test_students_with_histories_are_trained_and_told_apart(past: Source, config: TrainConfig, tmp_path: Path) -> None:
    options = HistoryOptions(length=3, delay_ms=1000, model={"pooling": "attention", "heads": 2})
    train(past, replace(config, history=options), tmp_path)
    full, lite = (load_checkpoint(tmp_path / "students" / f"clicks{end}") for end in (".pt", ".lite.pt"))
    assert full.schema.history == HistorySpec(3, 8, 1000, (1,))
    assert full.schema.digest == lite.schema.digest != past.schema.for_vertical("clicks").digest
    assert load_checkpoint(tmp_path / "teacher.pt").schema.history is None
    student = full.build_student()
    assert student.history is not None
    assert student.history.encoder.pooling == "attention"
    assert full.golden[HISTORY].shape == (1, 3 * 10)
    before = StudentLearner(full.schema, config.student, None, seed=0, batch=50, history=options.model).model
    assert not torch.equal(student.history.encoder.value.weight, before.history.encoder.value.weight)  # type: ignore[union-attr]


def test_histories_need_embeddings(tiny: Make, config: TrainConfig) -> None:
    with pytest.raises(TrainingError, match=r"history.length is 3, but the data brings no embeddings"):
        train(tiny(100), replace(config, history=HistoryOptions(length=3, delay_ms=0)))


def test_an_unknown_option_of_the_histories_is_named(past: Source, config: TrainConfig) -> None:
    with pytest.raises(ModelError, match=r"history: .*'poling'"):
        train(past, replace(config, history=HistoryOptions(length=3, delay_ms=0, model={"poling": "sum"})))

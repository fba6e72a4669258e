"""The runner without Triton: its backend module is replaced by a stand-in, everything else is real."""

import errno
import fcntl
import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exfm.features.encoding import MISSING
from exfm.features.schema import Schema
from exporter.durable import try_lock
from exporter.runner import aside

VERTICAL = "feed_click"


class FakeTensor:
    def __init__(self, name: str, value: Any) -> None:
        self._name, self.value = name, value

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Any:
        return self.value


class FakeError:
    CANCELLED, INVALID_ARG = "cancelled", "invalid"

    def __init__(self, message: str, code: str) -> None:
        self.message, self.code = message, code


class FakeRequest:
    """One request as Triton hands it over: every tensor with the batch dimension of 1."""

    def __init__(self, tensors: dict[str, Any], cancelled: bool = False) -> None:
        self.tensors = {name: value[None] if name.startswith("c") else value for name, value in tensors.items()}
        self.cancelled = cancelled
        self.asked = 0

    @classmethod
    def together(cls, requests: list[dict[str, Any]], cancelled: bool = False) -> "FakeRequest":
        """A jagged batch, without a dimension of Triton's."""
        made = cls({}, cancelled)
        made.tensors = {name: np.concatenate([request[name] for request in requests]) for name in requests[0]}
        sizes = [len(request["candidate_ids"]) for request in requests]
        made.tensors["owner"] = np.repeat(np.arange(len(requests)), sizes)
        return made

    def inputs(self) -> list[FakeTensor]:
        return [FakeTensor(name, value) for name, value in self.tensors.items()]

    def is_cancelled(self) -> bool:
        self.asked += 1
        return self.cancelled


class FakeResponse:
    def __init__(self, tensors: list[FakeTensor] | None = None, error: FakeError | None = None) -> None:
        self.error = error
        self.outputs = {tensor.name(): tensor.value for tensor in tensors or ()}


@pytest.fixture(scope="module")
def runner() -> Iterator[ModuleType]:
    fake = SimpleNamespace(
        Tensor=FakeTensor,
        TritonError=FakeError,
        InferenceResponse=FakeResponse,
    )
    path = list(sys.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "triton_python_backend_utils", fake)
        yield importlib.import_module("exporter.runner.model")
    sys.path[:] = path
    sys.modules.pop("exporter.runner.model")


@pytest.fixture(scope="module")
def scorer(runner: ModuleType, published_repository: Path, own: Schema) -> Any:
    return runner.Scorer(published_repository / VERTICAL / "1", own)


@pytest.fixture
def model(runner: ModuleType, scorer: Any) -> Any:
    model = runner.TritonPythonModel()
    model._scorer, model._last = scorer, scorer._tensors[-1].name
    return model


@pytest.mark.parametrize("version", ["2.0.0", "2.4.6", "10.1"])
def test_check_numpy_refuses_2_and_later(runner: ModuleType, version: str) -> None:
    with pytest.raises(runner.NotServableError, match=f"numpy {version}"):
        runner.check_numpy(version)


def test_check_numpy_accepts_1(runner: ModuleType) -> None:
    runner.check_numpy("1.26.4")


def test_check_schema_refuses_another_digest(runner: ModuleType, own: Schema) -> None:
    runner.check_schema(own, own.digest)
    with pytest.raises(runner.NotServableError, match="schema_hash 'other'"):
        runner.check_schema(own, "other")


def test_initialize_refuses_numpy_2_before_anything_else(runner: ModuleType) -> None:
    with pytest.raises(runner.NotServableError, match="numpy below 2"):
        runner.TritonPythonModel().initialize({})


def test_initialize_refuses_a_foreign_encoding(
    runner: ModuleType, published_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "check_numpy", lambda _: None)
    args = {"model_repository": str(published_repository / VERTICAL), "model_version": "1"}
    with pytest.raises(runner.NotServableError, match=r"the exfm\.features in use lies in"):
        runner.TritonPythonModel().initialize(args)


def test_warm_up_refuses_scores_that_are_off(scorer: Any, runner: ModuleType, published_repository: Path) -> None:
    golden = dict(np.load(published_repository / VERTICAL / "1" / "golden.npz"))
    scorer.warm_up(golden, [1, 500])
    with pytest.raises(runner.NotServableError, match=r"golden\.npz"):
        scorer.warm_up({**golden, "probability": golden["probability"] + 0.01}, [])
    with pytest.raises(runner.NotServableError, match=r"golden\.npz"):
        scorer.warm_up({**golden, "probability": golden["probability"] * np.nan}, [])


def test_unknown_counts_given_values_outside_the_vocabulary(scorer: Any, own: Schema, make_request: Any) -> None:
    request = make_request(own, 3)
    names = [f.name for f in own.side("ad")]
    request["request_ids"][:] = MISSING
    request["candidate_ids"][:, names.index("genre")] = [10, 777, MISSING]
    request["candidate_ids"][:, names.index("ad")] = [MISSING, 1, 2]
    other = {name: value.copy() for name, value in request.items()}
    other["candidate_ids"][:, names.index("genre")] = 888
    assert [scores.unknown for scores in scorer.score([request, other, request])] == [1, 3, 1]


def test_a_request_without_candidates_counts_its_own_values_only(scorer: Any, own: Schema, make_request: Any) -> None:
    requests = [make_request(own, size, seed=3) for size in (0, 4, 0)]
    for request, value in zip(requests, (777, int(MISSING), 888), strict=True):
        request["request_ids"][:] = value
        request["candidate_ids"][:] = 999_999
    assert [scores.unknown for scores in scorer.score(requests)] == [2, 4, 2]
    assert [scores.probability.shape for scores in scorer.score(requests)] == [(0, 2), (4, 2), (0, 2)]


def test_a_bad_request_leaves_the_others_alone(model: Any, own: Schema, make_request: Any) -> None:
    good = make_request(own, 5)
    short = FakeRequest(make_request(own, 4))
    short.tensors["candidate_numbers"] = short.tensors["candidate_numbers"][:, :3]
    wide = FakeRequest(make_request(own, 4))
    wide.tensors["request_ids"] = np.zeros((1, 9), np.int64)
    twice = FakeRequest(make_request(own, 4))
    twice.tensors["request_ids"] = np.zeros((2, 4), np.int64)
    typed = FakeRequest(make_request(own, 4))
    typed.tensors["candidate_ids"] = typed.tensors["candidate_ids"].astype(np.int32)
    answers = model.execute([short, FakeRequest(good), wide, twice, typed, FakeRequest(good)])
    for place, name in ((0, "candidate_numbers"), (2, "request_ids"), (3, "request_ids"), (4, "candidate_ids")):
        assert answers[place].error.code == FakeError.INVALID_ARG
        assert answers[place].error.message.startswith(name)
    (alone,) = model.execute([FakeRequest(good)])
    for place in (1, 5):
        np.testing.assert_allclose(answers[place].outputs["probability"], alone.outputs["probability"], atol=1e-6)
        assert answers[place].outputs["probability"].shape == (1, 5, 2)
        assert answers[place].outputs["unknown"].shape == (1, 1)


def test_a_jagged_batch_answers_like_single_requests(model: Any, own: Schema, make_request: Any) -> None:
    requests = [make_request(own, size, seed) for seed, size in enumerate((3, 1, 40))]
    single = model.execute([FakeRequest(request) for request in requests])
    (batch,) = model.execute([FakeRequest.together(requests)])
    assert batch.error is None
    assert batch.outputs["probability"].shape == (44, 2)
    expected = np.concatenate([answer.outputs["probability"][0] for answer in single])
    np.testing.assert_allclose(batch.outputs["probability"], expected, atol=1e-6)
    assert batch.outputs["unknown"].dtype == np.int32
    assert batch.outputs["unknown"].tolist() == [answer.outputs["unknown"].item() for answer in single]


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6), data=st.data())
def test_a_request_gets_the_same_scores_in_any_company(
    scorer: Any, own: Schema, make_request: Any, sizes: list[int], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(sizes))))
    requests = [make_request(own, size, seed) for seed, size in enumerate(sizes)]
    batch = FakeRequest.together([requests[place] for place in order]).tensors
    owner = batch.pop("owner")
    scores = scorer.score_jagged(batch, owner)
    for place, probability in zip(order, np.split(scores.probability, np.flatnonzero(np.diff(owner)) + 1), strict=True):
        (alone,) = scorer.score([requests[place]])
        np.testing.assert_allclose(probability, alone.probability, atol=1e-6)


@pytest.mark.parametrize(
    "owner",
    [
        [0, 0, 1, 1],
        [0, 0, 1, 1, 1, 1],
        [0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1],
        [0, 1, 0, 1, 1],
        [0, 0, 2, 2, 2],
        [-1, 0, 0, 1, 1],
    ],
)
def test_owners_that_leave_a_row_or_a_request_alone_are_refused(
    model: Any, own: Schema, make_request: Any, owner: list[int]
) -> None:
    request = FakeRequest.together([make_request(own, 2), make_request(own, 3)])
    request.tensors["owner"] = np.array(owner, np.int64)
    (answer,) = model.execute([request])
    assert answer.error.code == FakeError.INVALID_ARG
    assert answer.error.message == "owner does not say whose of 2 requests each of 5 rows is"


def test_tensors_of_a_jagged_batch_that_do_not_fit_are_refused(model: Any, own: Schema, make_request: Any) -> None:
    requests = [make_request(own, 2), make_request(own, 3)]
    for name, value in {
        "request_ids": np.zeros((2, 9), np.int64),
        "candidate_ids": np.zeros((5, 2), np.int32),
        "candidate_numbers": np.zeros((4, 1), np.float32),
    }.items():
        batch = FakeRequest.together(requests)
        batch.tensors[name] = value
        (answer,) = model.execute([batch])
        assert answer.error.message.startswith(name)


def test_a_large_jagged_batch_that_was_cancelled_is_skipped(
    model: Any, own: Schema, make_request: Any, runner: ModuleType
) -> None:
    large = [make_request(own, runner.ASK_FROM_CANDIDATES)]
    (answer,) = model.execute([FakeRequest.together(large, cancelled=True)])
    assert answer.error.code == FakeError.CANCELLED


def test_a_large_cancelled_request_is_skipped(model: Any, own: Schema, make_request: Any, runner: ModuleType) -> None:
    large = make_request(own, runner.ASK_FROM_CANDIDATES)
    cancelled, live = FakeRequest(large, cancelled=True), FakeRequest(large)
    small = FakeRequest(make_request(own, 2), cancelled=True)
    answers = model.execute([cancelled, live, small])
    assert answers[0].error.code == FakeError.CANCELLED
    assert answers[1].error is None
    assert answers[2].error is None, "asking would take longer than answering"
    assert small.asked == 0


def test_execute_of_none_left_runs_nothing(model: Any) -> None:
    assert model.execute([]) == []


def test_a_schema_without_candidate_numbers_is_served(
    runner: ModuleType, published_repository: Path, tiny_schema: Schema, make_request: Any, tmp_path: Path
) -> None:
    own = tiny_schema.for_vertical("feed_long_view")
    folder = shutil.copytree(published_repository / "feed_long_view" / "1", tmp_path / "1")
    scorer = runner.Scorer(folder, own)
    assert [scores.probability.shape for scores in scorer.score([make_request(own, n) for n in (3, 1)])] == [
        (3, 1),
        (1, 1),
    ]


def _arguments(home: Path, version: str) -> dict[str, str]:
    """What Triton gives an instance, as far as it is looked at."""
    return {"model_repository": str(home), "model_version": version, "model_config": "{}"}


def test_a_version_loads_where_it_is_not_felt(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(runner, "check_numpy", lambda _: None)
    monkeypatch.setattr(runner, "check_origin", lambda _: None)
    monkeypatch.setattr(runner, "yield_to_all", lambda: None)

    def start(version: str) -> Any:
        model = runner.TritonPythonModel()
        monkeypatch.setattr(model, "_load", lambda *_: seen.append(os.sched_getscheduler(0)))
        (tmp_path / version).mkdir(exist_ok=True)
        (tmp_path / version / "schema.json").touch()
        model.initialize(_arguments(tmp_path, version))
        return model

    first = start("1")
    second = start("1")
    assert seen == [os.SCHED_OTHER] * 2, "nobody serves who would feel it"
    third = start("2")
    first.finalize()
    second.finalize()
    start("1").finalize()
    assert seen[2:] == [os.SCHED_IDLE] * 2
    third.finalize()
    start("1").finalize()
    assert seen[4:] == [os.SCHED_OTHER]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER, "what serves afterwards has its turn as before"


def test_a_version_is_locked_from_loading_to_serving_without_a_gap(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever prunes tries the folder's lock and that of its schema; without either the version would be gone."""

    def serves(folder: str) -> int:
        assert try_lock(Path(folder)) is None
        return int(aside.serves(folder))

    for name in ("check_numpy", "check_origin"):
        monkeypatch.setattr(runner, name, lambda _: None)
    monkeypatch.setattr(runner, "serves", serves)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "schema.json").touch()
    model = runner.TritonPythonModel()
    monkeypatch.setattr(model, "_load", lambda *_: None)
    monkeypatch.setattr(runner, "yield_to_all", lambda: None)
    model.initialize(_arguments(tmp_path, "1"))
    assert try_lock(tmp_path / "1" / "schema.json") is None
    model.finalize()
    for path in (tmp_path / "1", tmp_path / "1" / "schema.json"):
        lock = try_lock(path)
        assert lock is not None
        os.close(lock)


def test_a_turn_that_was_taken_for_it_is_given_back(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever started the process holds the folder's lock already, in a file that is open here."""
    given = try_lock(tmp_path)
    assert given is not None
    monkeypatch.setenv(runner.TURN, str(given))
    with runner.in_turn(tmp_path):
        assert try_lock(tmp_path) is None
    lock = try_lock(tmp_path)
    assert lock is not None
    os.close(lock)
    with runner.in_turn(tmp_path):
        assert try_lock(tmp_path) is None, "the next one takes its own"


def test_one_that_never_served_ends_like_the_others(runner: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    monkeypatch.setattr(runner, "yield_to_all", lambda: ended.append(True))
    runner.TritonPythonModel().finalize()
    assert ended


def test_instances_load_one_after_the_other(runner: ModuleType, tmp_path: Path) -> None:
    with runner.in_turn(tmp_path):
        other = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)


def test_where_folders_cannot_be_locked_they_load_all_the_same(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def none(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("fcntl.flock", none)
    with runner.in_turn(tmp_path):
        pass


@pytest.mark.parametrize("spoil", [np.zeros_like, lambda p: p[:, ::-1], lambda p: p[::-1]])
def test_rare_events_do_not_hide_wrong_scores(
    scorer: Any, runner: ModuleType, published_repository: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any
) -> None:
    """Zeros, another task's scores, another candidate's: all are off by less than int8 may be."""
    golden = dict(np.load(published_repository / VERTICAL / "1" / "golden.npz"))
    rare = (golden["probability"] * np.array([0.02, 0.03])).astype(np.float32)
    request = {name: value for name, value in golden.items() if name != "probability"}
    monkeypatch.setattr(scorer, "_file", replace(scorer._file, golden_bound=6e-2))
    for made, sound in ((rare * np.float32(1.01), True), (np.ascontiguousarray(spoil(rare)), False)):
        monkeypatch.setattr(scorer, "score", lambda _, made=made: [runner.Scores(made, 0)])
        if sound:
            scorer.warm_up({**request, "probability": rare}, [])
            continue
        with pytest.raises(runner.NotServableError, match=r"NE is .*% above torch's, the bound is 0\.20%"):
            scorer.warm_up({**request, "probability": rare}, [])

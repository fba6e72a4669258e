"""The annotator: each example once through the teacher, into the stream and the store, whatever happens on the way."""

import base64
import json
import os
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from exfm.augment.annotate.annotator import Annotator
from exfm.augment.annotate.forward import Annotations
from exfm.augment.annotate.rows import PoisonError
from exfm.augment.annotate.snapshots import SnapshotError, Snapshots
from exfm.augment.annotate.workers.inline import InlineWorkers
from exfm.augment.annotate.workers.protocol import Task, WorkerDiedError, WorkersUnavailableError
from exfm.augment.join import example
from exfm.augment.join.joiner import ANNOTATOR
from exfm.augment.store.store import StoreUnavailableError
from exfm.augment.stream.writer import StreamError
from exfm.data.annotated import StreamReader
from exfm.data.errors import DataError
from exfm.data.source import open_source
from exfm.distill.config import load_config
from exfm.distill.counters import counters
from exfm.distill.stream import encode
from exfm.events.log import LogUnavailableError
from exfm.events.sqlite import SqliteLog
from exfm.features.encoding import MISSING
from exfm.features.history import inputs_at, inputs_of, latest


def rows_of(folder: Path) -> list[Any]:
    return list(StreamReader(folder / "stream").read())


def keys_of(folder: Path) -> list[bytes]:
    return [bytes(key) for part in rows_of(folder) for key in part.key]


class Counting(InlineWorkers):
    """Counts what the teacher is asked, and lets some rows be poison or some calls kill their worker."""

    def __init__(self, folder: Path, poison: Callable[[Task], bool] = lambda _: False, deaths: int = 0) -> None:
        super().__init__(folder)
        self.rows, self.poison, self.deaths = 0, poison, deaths

    def submit(self, task: Task) -> "Future[Annotations]":
        future: Future[Annotations] = Future()
        if self.deaths:
            self.deaths -= 1
            future.set_exception(WorkerDiedError("killed"))
            return future
        if self.poison(task):
            future.set_exception(PoisonError("poison"))
            return future
        self.rows += len(task.rows)
        return super().submit(task)


class Deep(InlineWorkers):
    """Has several batches in flight."""

    depth = 3


def test_each_example_goes_through_the_teacher_once_and_ends_in_the_stream(plant: Any) -> None:
    plant.join()
    plant.workers = workers = Counting(plant.folder / "snapshots")
    annotator = plant.open()
    assert plant.drain(annotator) == len(plant.world.impressions) == workers.rows
    assert sorted(keys_of(plant.folder)) == sorted(each.key for each in plant.world.impressions)
    assert plant.output.lag(ANNOTATOR, example.TOPIC).events == 0
    assert annotator.last.snapshot.startswith("first-")
    annotator.close()


def test_the_annotations_are_the_teachers_own(plant: Any) -> None:
    plant.join()
    annotator = plant.open()
    plant.drain(annotator)
    source = open_source(plant.folder / "stream")
    annotator.close()
    log, schema, settings = source.examples, source.schema, load_config(plant.world.source.name)
    rows = np.concatenate(list(encode(log, schema).values()), 1)
    past = counters(
        log, schema, rows, tasks=schema.tasks, maturity_s=settings.stream.maturity_s, options=settings.counters
    )
    model = annotator.snapshot.model
    with torch.no_grad():
        expected = torch.sigmoid(model(torch.from_numpy(rows), torch.from_numpy(past))).numpy()
    made = np.stack([log.annotations[task] for task in schema.tasks], 1)
    np.testing.assert_allclose(made, expected, atol=1e-5)


def test_rows_carry_the_schemas_features_and_what_a_vertical_lacks_is_missing(plant: Any) -> None:
    plant.join()
    annotator = plant.open()
    plant.drain(annotator)
    annotator.close()
    truth = plant.world.source.examples
    made = open_source(plant.folder / "stream").examples
    np.testing.assert_array_equal(made.time_ms, truth.time_ms)
    np.testing.assert_array_equal(made.blocks["user_ids"], truth.blocks["user_ids"])
    np.testing.assert_array_equal(made.blocks["ad_ids"], truth.blocks["ad_ids"])
    bought = ~np.isnan(made.labels["buy"])
    default = next(f.default for f in plant.world.source.schema.features if f.name == "age")
    assert (made.blocks["user_numbers"][bought, 0] == default).all()  # `buys` doesn't read the age
    np.testing.assert_array_equal(made.blocks["user_numbers"][~bought], truth.blocks["user_numbers"][~bought])


def test_a_snapshot_does_not_annotate_what_it_has_learned(publish: Callable[..., Snapshots], plant: Any) -> None:
    middle = int(plant.world.source.examples.time_ms[150])
    publish(plant.world.source, "knowing", learned_until_ms=middle)
    plant.join()
    annotator = plant.open()
    plant.drain(annotator)
    annotator.close()
    for part in rows_of(plant.folder):
        learned = part.examples.time_ms <= middle
        assert np.isnan(part.examples.annotations["click"][learned]).all()
        assert not np.isnan(part.examples.annotations["click"][~learned]).any()
        assert (part.snapshot[learned] == "").all()
        assert (part.events.space[learned] == 0).all()


def test_another_snapshot_takes_over_without_a_stop(plant: Any, publish: Callable[..., Snapshots]) -> None:
    plant.join(0, 150)
    annotator = plant.open()
    plant.drain(annotator)
    publish(plant.world.source, "second", seed=5)
    plant.until_taken_over(annotator, "second")
    plant.join(150)
    plant.drain(annotator)
    annotator.close()
    said = {str(who).split("-")[0] for part in rows_of(plant.folder) for who in part.snapshot}
    assert said == {"first", "second"}
    assert len(keys_of(plant.folder)) == len(plant.world.impressions)


def test_a_snapshot_that_was_away_is_asked_for_again(plant: Any) -> None:
    plant.join()
    annotator = plant.open()
    path = plant.snapshots.path("first")
    path.rename(path.with_suffix(".away"))
    for _ in range(2):
        with pytest.raises(SnapshotError, match="'first': there is no"):
            annotator.step()
    path.with_suffix(".away").rename(path)
    plant.drain(annotator)
    annotator.close()
    assert sorted(keys_of(plant.folder)) == sorted(each.key for each in plant.world.impressions)


def test_where_a_snapshot_is_gone_the_next_one_takes_its_batches(plant: Any, publish: Callable[..., Snapshots]) -> None:
    plant.workers = Deep(plant.folder / "snapshots")
    plant.join()
    annotator = plant.open()
    plant.snapshots.path("first").unlink()
    with pytest.raises(SnapshotError, match="'first': there is no"):
        annotator.step()
    publish(plant.world.source, "second", seed=5)
    plant.until_taken_over(annotator, "second")
    plant.drain(annotator)
    annotator.close()
    assert {str(who).split("-")[0] for part in rows_of(plant.folder) for who in part.snapshot} == {"second"}
    assert sorted(keys_of(plant.folder)) == sorted(each.key for each in plant.world.impressions)
    swapped = [part.examples.annotations["click"] for part in rows_of(plant.folder)]
    fresh = plant.folder / "fresh"
    fresh.mkdir()
    again = type(plant)(plant.world, plant.snapshots, fresh)
    again.workers = InlineWorkers(plant.folder / "snapshots")
    again.join()
    annotator = again.open()
    again.drain(annotator)
    annotator.close()
    again.output.close()
    expected = [part.examples.annotations["click"] for part in rows_of(fresh)]
    np.testing.assert_allclose(np.concatenate(swapped), np.concatenate(expected), atol=1e-6)  # nothing counted twice


def test_a_snapshot_that_does_not_fit_is_left_alone(plant: Any, publish: Callable[..., Snapshots]) -> None:
    annotator = plant.open()
    publish(plant.world.source, "wider", embedding=16)
    plant.join()
    plant.drain(annotator)
    annotator.close()
    assert annotator.last.snapshot.startswith("first-")


def test_a_poison_row_is_found_and_the_others_go_on(plant: Any) -> None:
    plant.join()

    def poison(task: Task) -> bool:
        return bool(np.isin(task.rows[:, 0], list(wrong)).any())

    users = np.unique(plant.world.source.examples.user)[:2]
    log = plant.world.source.examples
    encoded = encode(log, plant.world.source.schema)["user"][:, 0]
    wrong = {int(encoded[log.user == user][0]) for user in users}
    expected = int(np.isin(encoded, list(wrong)).sum())
    plant.workers = Counting(plant.folder / "snapshots", poison)
    annotator = plant.open()
    plant.drain(annotator)
    annotator.close()
    commits = StreamReader(plant.folder / "stream").commits()
    assert sum(each.dead for each in commits) == expected > 0
    assert sum(each.rows for each in commits) == len(log) - expected
    first = next(each for each in commits if each.dead)
    lines = (plant.folder / "stream" / first.dead_file).read_text().splitlines()
    letter = json.loads(lines[0])
    assert letter["reason"] == "poison"
    assert example.decode(base64.b64decode(letter["payload"])).num_rows == 1


@pytest.mark.parametrize("change", [{"schema_hash": "other"}, {"user_ids": b"123"}, {"ad_numbers": b"\0\0\xc0\x7f"}])
def test_rows_that_cannot_be_read_are_dead_letters(plant: Any, change: dict[str, Any]) -> None:
    rows = plant.world.impressions
    place = next(i for i, each in enumerate(rows) if each.vertical == "clicks")
    rows[place] = rows[place]._replace(**change)
    plant.join()
    annotator = plant.open()
    assert plant.drain(annotator) == len(rows)
    annotator.close()
    assert sum(each.dead for each in StreamReader(plant.folder / "stream").commits()) == 1


def test_a_damaged_record_is_a_dead_letter(plant: Any) -> None:
    plant.output.append(example.TOPIC, b"junk", 9, os.urandom(16))
    plant.join(0, 10)
    annotator = plant.open()
    assert plant.drain(annotator) == 19
    annotator.close()
    (commit,) = StreamReader(plant.folder / "stream").commits()
    assert (commit.rows, commit.dead) == (10, 9)


def test_a_dead_worker_costs_nothing(plant: Any) -> None:
    plant.join()
    plant.workers = Counting(plant.folder / "snapshots", deaths=3)
    annotator = plant.open()
    plant.drain(annotator)
    annotator.close()
    assert len(keys_of(plant.folder)) == len(plant.world.impressions)


class Absent(InlineWorkers):
    """Takes no work at first, and then does not answer for a while."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.refusals, self.held = 3, list[tuple[Task, Future[Annotations]]]()

    def submit(self, task: Task) -> "Future[Annotations]":
        future: Future[Annotations] = Future()
        if self.refusals:
            self.refusals -= 1
            future.set_exception(WorkersUnavailableError("no room"))
        else:
            self.held.append((task, future))
        return future

    def release(self) -> None:
        """Answer everything."""
        for task, future in self.held:
            future.set_result(super().submit(task).result())
        self.held.clear()


def test_where_nobody_takes_work_it_waits_and_nothing_is_dead(plant: Any) -> None:
    plant.join(0, 100)
    plant.workers = workers = Absent(plant.folder / "snapshots")
    annotator = plant.open(options=replace(plant.options, batch=1000, wait_s=0.01))
    for said in ("no room", "no room", "no answer for 100 rows", "no answer for 100 rows"):
        with pytest.raises(WorkersUnavailableError, match=said):
            annotator.step()
    assert len(workers.held) == 1  # it goes on waiting for what it asked
    workers.release()
    assert plant.drain(annotator) == 100
    annotator.close()
    assert len(keys_of(plant.folder)) == 100


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_between_any_two_steps_repeats_no_row(plant: Any, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The four places: before the files, before the commit, before the store, before the source hears of it."""
    draw = np.random.default_rng(seed)
    plant.join()
    places = [(Annotator, "_commit"), ("fsync", ""), (type(plant.store), "update"), (type(plant.output), "commit")]

    class CutError(Exception):
        pass

    def cut(*_: Any, **__: Any) -> None:
        raise CutError

    while True:
        annotator = plant.open()
        owner, name = places[int(draw.integers(len(places)))]
        with monkeypatch.context() as patch:
            for _ in range(int(draw.integers(0, 2))):
                annotator.step()
            if name:
                patch.setattr(owner, name, cut)
            else:
                patch.setattr("exfm.augment.stream.writer.os.fsync", cut)
            try:
                settled = annotator.step()
            except CutError:
                settled = 1
        annotator.close()
        if not settled:
            break
    assert sorted(keys_of(plant.folder)) == sorted(each.key for each in plant.world.impressions)
    assert stored(plant) == expected_histories(plant)


def stored(plant: Any) -> dict[int, list[int]]:
    users = np.unique(plant.world.source.examples.user)
    found = {int(user): plant.store.read(int(user)) for user in users}
    return {user: history.time_ms.tolist() for user, history in found.items() if history is not None}


def expected_histories(plant: Any) -> dict[int, list[int]]:
    log = plant.world.source.examples
    return {int(user): log.time_ms[log.user == user].tolist() for user in np.unique(log.user)}


def test_the_store_gets_from_the_stream_what_it_missed(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.join()
    annotator = plant.open()

    def refuse(*_: Any) -> None:
        raise StoreUnavailableError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(plant.store, "update", refuse)
        plant.drain(annotator)
    assert stored(plant) == {}
    annotator.step()
    annotator.close()
    assert stored(plant) == expected_histories(plant)


def test_rows_without_a_user_enter_no_history(plant: Any) -> None:
    rows = plant.world.impressions
    rows[:] = [each._replace(user=int(MISSING)) for each in rows]
    plant.join()
    annotator = plant.open()
    plant.drain(annotator)
    annotator.close()
    assert plant.store.read(int(MISSING)) is None
    assert len(keys_of(plant.folder)) == len(rows)


def test_training_sees_the_history_that_serving_saw(plant: Any) -> None:
    """A request at time t, answered from the store, against the same request out of the stream."""
    plant.join()
    annotator = plant.open()
    plant.drain(annotator)
    annotator.close()
    parts = rows_of(plant.folder)
    user = np.concatenate([part.examples.user for part in parts])
    time_ms = np.concatenate([part.events.time_ms for part in parts])
    codes = np.concatenate([part.events.codes for part in parts])
    order = np.lexsort((time_ms, user))
    everyone = replace(parts[0].events, time_ms=time_ms[order], codes=codes[order])
    at = np.array([int(time_ms.max()) - 3_600_000], np.int64)
    for who in np.unique(user):
        kept = plant.store.read(int(who))
        served = inputs_at(kept, int(at[0]), delay_ms=60_000, length=4)
        index = latest(user[order], everyone.time_ms, np.array([who]), at, delay_ms=60_000, length=4)
        trained = inputs_of(everyone, index, at)
        np.testing.assert_array_equal(served.values, trained.values)
        np.testing.assert_array_equal(served.known, trained.known)


def test_only_one_annotator_writes_a_stream(plant: Any) -> None:
    annotator = plant.open()
    with pytest.raises(StreamError, match="another process"):
        plant.open()
    annotator.close()


def test_without_a_current_snapshot_there_is_a_clear_error(plant: Any) -> None:
    (plant.folder / "snapshots" / "CURRENT").unlink()
    with pytest.raises(SnapshotError, match="no current snapshot"):
        plant.open()


def test_a_snapshot_with_other_counters_is_refused(plant: Any, tmp_path: Path) -> None:
    config = tmp_path / "more.toml"
    config.write_text('[counters]\nkeys = ["user", "ad", "topic", "user*topic", "user*tab"]\n')
    with pytest.raises(SnapshotError, match="its settings make others"):
        plant.open(options=replace(plant.options, config=config))


def test_the_past_before_the_stream_counts(plant: Any) -> None:
    plant.join(200)
    annotator = plant.open(past=plant.world.source.examples.slice(0, 200))
    plant.drain(annotator)
    annotator.close()
    first = rows_of(plant.folder)[0].examples.annotations["click"]
    other = plant.folder / "other"
    (other).mkdir()
    plant.output.close()
    again = type(plant)(plant.world, plant.snapshots, other)
    again.workers = InlineWorkers(plant.folder / "snapshots")
    again.join(200)
    annotator = again.open()
    again.drain(annotator)
    annotator.close()
    again.output.close()
    assert not np.allclose(rows_of(other)[0].examples.annotations["click"], first)


def test_retention_of_the_stream_does_not_wait_for_the_store(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.join()
    annotator = plant.open()
    plant.drain(annotator)
    before = len(keys_of(plant.folder))

    def refuse(*_: Any) -> None:
        raise StoreUnavailableError("gone")

    monkeypatch.setattr(plant.store, "expire", refuse)
    with pytest.raises(StoreUnavailableError):
        annotator.drop_before(int(plant.world.source.examples.time_ms[150]))
    annotator.close()
    assert len(keys_of(plant.folder)) < before


def test_retention_drops_old_rows_and_users(plant: Any) -> None:
    plant.join()
    annotator = plant.open()
    plant.drain(annotator)
    middle = int(plant.world.source.examples.time_ms[150])
    before = len(keys_of(plant.folder))
    gone = annotator.drop_before(middle)
    annotator.close()
    assert 0 < gone <= 150
    assert len(keys_of(plant.folder)) == before - gone
    reopened = plant.open()
    assert plant.drain(reopened) == 0
    reopened.close()


def test_an_output_that_refuses_commits_repeats_no_row(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where its file is full or locked; the same annotator goes on."""
    plant.join()
    annotator = plant.open()
    refused: list[int] = []
    commit = type(plant.output).commit

    def refuse(*arguments: Any) -> None:
        if len(refused) < 2:
            refused.append(1)
            raise LogUnavailableError("database or disk is full")
        commit(*arguments)

    monkeypatch.setattr(type(plant.output), "commit", refuse)
    settled = [annotator.step() for _ in range(3)]
    assert (len(refused), all(settled)) == (2, True)
    plant.drain(annotator)
    annotator.close()
    assert sorted(keys_of(plant.folder)) == sorted(each.key for each in plant.world.impressions)
    assert stored(plant) == expected_histories(plant)
    assert plant.output.lag(ANNOTATOR, example.TOPIC).events == 0


def test_the_last_commit_is_told_even_if_no_other_follows(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.join(0, 20)
    annotator = plant.open()

    def refuse(*_: Any) -> None:
        raise LogUnavailableError("locked")

    with monkeypatch.context() as patch:
        patch.setattr(type(plant.output), "commit", refuse)
        assert annotator.step() == 20
        with pytest.raises(LogUnavailableError):
            annotator.step()
    assert plant.output.lag(ANNOTATOR, example.TOPIC).events == 20
    assert annotator.step() == 0
    annotator.close()
    assert plant.output.lag(ANNOTATOR, example.TOPIC).events == 0


@pytest.mark.parametrize("rows", [0, 20, 300])
def test_a_stream_does_not_go_on_from_another_joins_output(plant: Any, rows: int) -> None:
    plant.join(0, 100)
    annotator = plant.open()
    plant.drain(annotator)
    annotator.close()
    plant.output.close()
    for path in plant.folder.glob("join.sqlite*"):
        path.unlink()
    plant.output = SqliteLog(plant.folder / "join.sqlite")
    if rows:
        plant.join(0, rows)
    for _ in range(2):  # it lets go of the stream
        with pytest.raises(StreamError, match="another join's output"):
            plant.open()


def test_retention_of_the_output_is_no_other_output(plant: Any) -> None:
    plant.join()
    annotator = plant.open()
    plant.drain(annotator)
    annotator.close()
    assert plant.output.trim(example.TOPIC, 1 << 60) == len(plant.world.impressions)
    plant.open().close()


def test_a_stream_that_cannot_be_read_leaves_the_last_snapshot_at_work(
    plant: Any, publish: Callable[..., Snapshots], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.join()
    annotator = plant.open()
    publish(plant.world.source, "second", seed=5)

    def refuse(*_: Any) -> None:
        raise DataError("damaged", plant.folder)

    with monkeypatch.context() as patch:
        patch.setattr(Annotator, "_take_over", refuse)
        plant.drain(annotator)
    assert annotator.snapshot.name == "first"
    plant.until_taken_over(annotator, "second")
    annotator.close()
    assert len(keys_of(plant.folder)) == len(plant.world.impressions)

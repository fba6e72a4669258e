import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exfm.features.schema import Columns, Feature, HistorySpec, Schema, SchemaError, Vertical

AD = Feature("ad_id", "ad", "id", buckets=10)
AGE = Feature("age", "user", "number", boundaries=(1, 2))
VERTICAL = Vertical("feed", ("click",))

TOML = """
name = "shop"
[columns]
user = "who"
[[feature]]
name = "ad_id"
side = "ad"
kind = "id"
buckets = 100
[[feature]]
name = "age"
side = "user"
kind = "number"
boundaries = [18, 30.5]
column = "years"
[[vertical]]
name = "feed"
tasks = ["click"]
"""


@given(st.data())
def test_dict_round_trip_through_json(schemas: st.SearchStrategy[Schema], data: st.DataObject) -> None:
    schema = data.draw(schemas)
    again = Schema.from_dict(json.loads(json.dumps(schema.to_dict())))
    assert again == schema
    assert again.digest == schema.digest


@given(st.data())
def test_rows_and_order_of_a_vertical(schemas: st.SearchStrategy[Schema], data: st.DataObject) -> None:
    schema = data.draw(schemas)
    sub = schema.for_vertical("two")
    kept = [feature for feature in schema.ordered if feature.name in schema.vertical("two").features]
    assert list(sub.ordered) == kept
    assert sub.rows == sum(feature.rows for feature in kept)
    assert sub.tasks == schema.vertical("two").tasks


def test_within_a_side_numbers_come_last_and_files_order_stands() -> None:
    features = (
        Feature("n1", "ad", "number"),
        Feature("i1", "ad", "id", buckets=5),
        Feature("u", "user", "number"),
        Feature("c", "context", "category", vocabulary=("a",)),
        Feature("n2", "ad", "number"),
        Feature("i2", "ad", "id", buckets=5),
    )
    schema = Schema("s", features, (VERTICAL,))
    assert [feature.name for feature in schema.ordered] == ["u", "c", "i1", "i2", "n1", "n2"]


def test_load_reads_toml_and_json_alike(tmp_path: Path) -> None:
    toml, as_json = tmp_path / "schema.toml", tmp_path / "schema.json"
    toml.write_text(TOML)
    schema = Schema.load(toml)
    as_json.write_text(json.dumps(schema.to_dict()))
    assert Schema.load(as_json) == schema
    assert schema.columns == Columns(user="who")
    assert schema.side("user") == (Feature("age", "user", "number", boundaries=(18.0, 30.5), column="years"),)
    assert schema.side("user")[0].source == "years"


def test_load_names_the_file(tmp_path: Path) -> None:
    for name, text in (("a.toml", "x ="), ("b.json", "{"), ("c.toml", "nope = 1"), ("d.json", "[]")):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(SchemaError, match=name):
            Schema.load(path)


def test_digest_depends_on_what_tensors_depend_on() -> None:
    schema = Schema("s", (AD, AGE), (VERTICAL,))
    same = [
        replace(schema, name="other"),
        replace(schema, columns=Columns(user="who")),
        replace(schema, verticals=(replace(VERTICAL, budget_ms=3.0, max_candidates=7),)),
        replace(schema, features=(AD, replace(AGE, column="years"))),
        replace(schema, features=(AD, replace(AGE, boundaries=(1.0, 2.0)))),
        replace(schema, features=(AGE, AD)),  # the sides' order decides, not the file's
    ]
    other = [
        replace(schema, features=(AD,)),
        replace(schema, features=(AD, replace(AGE, boundaries=(1.0, 2.5)))),
        replace(schema, features=(AD, replace(AGE, default=1.0))),
        replace(schema, features=(replace(AD, buckets=11), AGE)),
        replace(schema, features=(replace(AD, name="ad"), AGE)),
        replace(schema, verticals=(replace(VERTICAL, tasks=("buy",)),)),
    ]
    assert {item.digest for item in same} == {schema.digest}
    assert len({item.digest for item in (schema, *other)}) == len(other) + 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Feature("x", "car", "id", buckets=2), "side 'car' is none of user, context, ad"),  # type: ignore[arg-type]
        (lambda: Feature("x", "ad", "blob"), "kind 'blob' is none of id, category, number"),  # type: ignore[arg-type]
        (lambda: Feature("x", "ad", "id", buckets=1), "'x': an id needs buckets >= 2, got 1"),
        (lambda: Feature("x", "ad", "category"), "'x': a category needs a vocabulary"),
        (lambda: Feature("x", "ad", "category", vocabulary=(1, "a")), "all integers or all strings"),  # type: ignore[arg-type]
        (lambda: Feature("x", "ad", "category", vocabulary=(True, False)), "all integers or all strings"),
        (lambda: Feature("x", "ad", "category", vocabulary=(1, 1)), "a value twice"),
        (lambda: Feature("x", "ad", "category", vocabulary=(2**63,)), "beyond 64 bits"),
        (lambda: Feature("x", "ad", "number", boundaries=(1.0, 1.0)), "must increase strictly"),
        (lambda: Feature("x", "ad", "number", boundaries=(float("nan"),)), "must be finite"),
        (lambda: Feature("x", "ad", "number", default=float("inf")), "must be finite"),
        (lambda: Vertical("../evil", ("a",)), "vertical '../evil': a name is made of letters, digits, '_' and '-'"),
        (lambda: Vertical("feed\n", ("a",)), "a name is made of"),
        (lambda: Vertical("käufe", ("a",)), "a name is made of"),
        (lambda: Vertical("", ("a",)), "vertical '': a name is made of"),
        (lambda: Vertical("v", ()), "'v': needs at least one task"),
        (lambda: Vertical("v", ("a", "a")), "'v': holds a task twice"),
        (lambda: Vertical("v", ("a",), budget_ms=0), "'v': budget_ms must be positive and finite, got 0"),
        (lambda: Vertical("v", ("a",), budget_ms=float("inf")), "budget_ms must be positive and finite, got inf"),
        (lambda: Vertical("v", ("a",), max_candidates=0), "'v': max_candidates must be >= 1, got 0"),
        (lambda: Schema("s", (AD,), ()), "'s': needs at least one vertical"),
        (lambda: Schema("s", (AGE,), (VERTICAL,)), "'s': needs at least one feature of side 'ad'"),
        (lambda: Schema("s", (AD, AD), (VERTICAL,)), "feature 'ad_id': the name must be given, and once only"),
        (lambda: Schema("s", (AD, replace(AD, name="")), (VERTICAL,)), "feature '': the name must be given"),
        (lambda: Schema("s", (AD,), (VERTICAL, VERTICAL)), "vertical 'feed': the name must be given, and once"),
        (lambda: Schema("s", (AD,), (replace(VERTICAL, features=("zz",)),)), "'feed': unknown feature 'zz'"),
        (lambda: Schema("s", (AD, AGE), (replace(VERTICAL, features=("age",)),)), "'feed': needs at least one feature"),
        (lambda: Schema("s", (replace(AD, column="click"),), (VERTICAL,)), "outcome 'click' is also a feature"),
    ],
)
def test_contradictions_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature": {"name": "x"}}, "feature must be a list of tables"),
        ({"feature": ["x"]}, "feature: expected a table, got 'x'"),
        ({"feature": [{"name": "x", "side": "ad"}]}, "feature 'x': .*kind"),
        ({"feature": [{"name": "x", "side": "ad", "kind": "id", "bucket": 3}]}, "feature 'x': .*bucket"),
        ({"feature": [{"name": "x", "side": "ad", "kind": "id", "buckets": "3"}]}, "buckets: expected an integer"),
        ({"feature": [{"name": "x", "side": "ad", "kind": "id", "buckets": 2.5}]}, "buckets: expected an integer"),
        ({"feature": [{"name": "x", "side": "ad", "kind": "number", "boundaries": ["1"]}]}, "a list of numbers"),
        ({"feature": [{"name": "x", "side": "ad", "kind": "category", "vocabulary": "ab"}]}, "vocabulary: expected a"),
        ({"feature": [{"name": "x", "side": "ad", "kind": "category", "vocabulary": [[1]]}]}, "integers or text"),
        ({"vertical": [{"name": "v", "tasks": "click"}]}, "vertical 'v': tasks: expected a list of text, got 'click'"),
        ({"vertical": [{"name": "v", "tasks": [1]}]}, "vertical 'v': tasks: expected a list of text"),
        ({"vertical": [{"name": "v", "tasks": ["a"], "budget_ms": True}]}, "budget_ms: expected a number, got True"),
        ({"columns": {"usr": "u"}}, "columns '': .*usr"),
        ({"columns": {"user": 3}}, "user: expected text, got 3"),
        ({"extra": 1}, "unknown key 'extra'"),
    ],
)
def test_from_dict_refuses_what_it_does_not_know(change: dict[str, Any], message: str) -> None:
    raw = Schema("s", (AD,), (VERTICAL,)).to_dict()
    with pytest.raises(SchemaError, match=message):
        Schema.from_dict(raw | change)


def test_unknown_vertical_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Schema("s", (AD,), (VERTICAL,)).for_vertical("nope")


def test_a_history_changes_the_digest_and_comes_back_from_a_file(tmp_path: Path) -> None:
    plain = Schema("s", (AD, AGE), (VERTICAL,))
    made = [replace(plain, history=spec) for spec in (HistorySpec(5, 3), HistorySpec(5, 3, 10), HistorySpec(3, 5))]
    made.append(replace(plain, history=HistorySpec(5, 3, 10, (7, 2**32 - 1))))
    assert "history" not in plain.to_dict()
    assert len({schema.digest for schema in (plain, *made)}) == 5
    assert {schema.blocks_digest for schema in (plain, *made)} == {plain.digest}
    path = tmp_path / "schema.json"
    for schema in made:
        path.write_text(json.dumps(schema.to_dict()), encoding="utf-8")
        assert Schema.load(path) == schema
    assert made[1].to_dict()["history"] == {"length": 5, "dimension": 3, "delay_ms": 10}  # no spaces, as before
    assert made[1].for_vertical("feed").history == HistorySpec(5, 3, 10)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"length": 0, "dimension": 4}, "history: length must be >= 1 .* got 0"),
        ({"length": 4, "dimension": 4, "delay_ms": -1}, "history: delay_ms must be >= 0 .* got -1"),
        ({"length": 4, "dimension": 4, "spaces": [1, 0]}, "history: spaces must be >= 1 .* got 0"),
        ({"length": 4, "dimension": 4, "spaces": ["x"]}, "spaces: expected a list of integers"),
        ({"length": 4, "dimension": "x"}, "history '': dimension: expected an integer"),
        ({"length": 4}, "history '': .*dimension"),
        (3, "history: expected a table"),
    ],
)
def test_a_wrong_history_is_refused(entry: Any, message: str) -> None:
    raw = {**Schema("s", (AD,), (VERTICAL,)).to_dict(), "history": entry}
    with pytest.raises(SchemaError, match=message):
        Schema.from_dict(raw)

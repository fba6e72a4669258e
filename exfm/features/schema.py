"""The schema: what a log, a request and a model agree on.

A schema file (TOML) names each feature with its side, kind and value space, the outcome columns, and the verticals
that rank with them. Everything else is derived from it: the encoding, the tensor signature, the table sizes.
"""

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

T = TypeVar("T")
Side = Literal["user", "context", "ad"]
Kind = Literal["id", "category", "number"]
SIDES: tuple[Side, ...] = get_args(Side)
KINDS: tuple[Kind, ...] = get_args(Kind)


class SchemaError(ValueError):
    """The schema contradicts itself or asks for something unknown; the message names the entry."""


@dataclass(frozen=True)
class Feature:
    """One input of the models.

    Attributes:
        name: unique name, and the log's column unless `column` says otherwise.
        side: whose feature it is: the user's, the context's (once per request) or the ad's (once per candidate).
        kind: `id` is hashed into `buckets`, `category` is looked up in `vocabulary`, `number` is cut at `boundaries`.
        buckets: table rows of an `id`, row 0 for a missing value included; at least 2.
        vocabulary: the known values of a `category`, all integers or all strings; anything else is unknown (row 0).
        boundaries: strictly increasing cuts of a `number`; n cuts make n + 1 table rows.
        default: what stands for a missing `number`.
        column: the log's column, if it differs from `name`.
    """

    name: str
    side: Side
    kind: Kind
    buckets: int = 0
    vocabulary: tuple[int, ...] | tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()
    default: float = 0.0
    column: str = ""

    def __post_init__(self) -> None:
        where = f"feature {self.name!r}"
        if self.side not in SIDES:
            raise SchemaError(f"{where}: side {self.side!r} is none of {', '.join(SIDES)}")
        if self.kind not in KINDS:
            raise SchemaError(f"{where}: kind {self.kind!r} is none of {', '.join(KINDS)}")
        if self.kind == "id" and self.buckets < 2:
            raise SchemaError(f"{where}: an id needs buckets >= 2, got {self.buckets}")
        if self.kind == "category":
            self._check_vocabulary(where)
        self._check_numbers(where)

    def _check_numbers(self, where: str) -> None:
        # As floats, so that equal features are spelled alike in the digest, whether the file says 1 or 1.0.
        object.__setattr__(self, "boundaries", tuple(float(cut) for cut in self.boundaries))
        object.__setattr__(self, "default", float(self.default))
        if not all(math.isfinite(value) for value in (*self.boundaries, self.default)):
            raise SchemaError(f"{where}: boundaries and default must be finite")
        if any(a >= b for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise SchemaError(f"{where}: boundaries must increase strictly")

    def _check_vocabulary(self, where: str) -> None:
        if not self.vocabulary:
            raise SchemaError(f"{where}: a category needs a vocabulary")
        if len({type(value) for value in self.vocabulary}) != 1 or type(self.vocabulary[0]) not in (int, str):
            raise SchemaError(f"{where}: vocabulary must be all integers or all strings")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise SchemaError(f"{where}: vocabulary holds a value twice")
        if any(isinstance(value, int) and not -(2**63) < value < 2**63 for value in self.vocabulary):
            raise SchemaError(f"{where}: vocabulary holds a value beyond 64 bits")

    @property
    def source(self) -> str:
        """The log's column that carries this feature."""
        return self.column or self.name

    @property
    def rows(self) -> int:
        """Rows of the embedding table that this feature owns."""
        if self.kind == "id":
            return self.buckets
        return (len(self.vocabulary) if self.kind == "category" else len(self.boundaries)) + 1


@dataclass(frozen=True)
class Vertical:
    """A ranking task on a surface.

    Attributes:
        name: also the model's name in the Triton repository, and a folder there: letters, digits, `_` and `-`.
        tasks: outcome columns of the log that the vertical's student predicts, in the order of its outputs.
        budget_ms: the longest a request may take, end to end.
        max_candidates: the most ads that one request may carry.
        features: names of the features that the student reads; empty means all of the schema's.
    """

    name: str
    tasks: tuple[str, ...]
    budget_ms: float = 25.0
    max_candidates: int = 2048
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            raise SchemaError(f"vertical {self.name!r}: a name is made of letters, digits, '_' and '-' (A-Z, a-z, 0-9)")
        if not self.tasks:
            raise SchemaError(f"vertical {self.name!r}: needs at least one task")
        if len(set(self.tasks)) != len(self.tasks):
            raise SchemaError(f"vertical {self.name!r}: holds a task twice")
        if not 0 < self.budget_ms < float("inf"):
            raise SchemaError(f"vertical {self.name!r}: budget_ms must be positive and finite, got {self.budget_ms}")
        if self.max_candidates < 1:
            raise SchemaError(f"vertical {self.name!r}: max_candidates must be >= 1, got {self.max_candidates}")


@dataclass(frozen=True)
class Columns:
    """The log's columns that are not features.

    Attributes:
        user: integer or string key of the user.
        ad: integer or string key of the ad.
        time_ms: milliseconds since the epoch, UTC.
        vertical: name of the column that says which vertical served the row; empty: every row belongs to all.
        bid: value of one positive outcome, if the log has it.
    """

    user: str = "user_id"
    ad: str = "ad_id"
    time_ms: str = "time_ms"
    vertical: str = ""
    bid: str = ""


@dataclass(frozen=True)
class HistorySpec:
    """The history of stored embeddings that a student reads besides the features (LoopFM, arXiv 2605.29280).

    Attributes:
        length: L, the most events; the user's latest ones.
        dimension: d, of one embedding.
        delay_ms: an event may be seen when it is older than this, so that training sees no more than the store had.
        spaces: the embedding spaces that the student has learned to read, others' events don't count; empty: any.
    """

    length: int
    dimension: int
    delay_ms: int = 0
    spaces: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("length", 1), ("dimension", 1), ("delay_ms", 0)):
            if not least <= getattr(self, name) < 2**31:
                raise SchemaError(f"history: {name} must be >= {least} and below 2**31, got {getattr(self, name)}")
        if wrong := [space for space in self.spaces if not 0 < space < 2**32]:
            raise SchemaError(f"history: spaces must be >= 1 and below 2**32, got {wrong[0]}")

    @property
    def width(self) -> int:
        """Of one request's row: values, flags, ages (`exfm.features.history.row_of`)."""
        return self.length * (self.dimension + 2)


@dataclass(frozen=True)
class Schema:
    """Features, columns and verticals of one log, and the history that its students read; see the module's text."""

    name: str
    features: tuple[Feature, ...]
    verticals: tuple[Vertical, ...]
    columns: Columns = Columns()
    history: HistorySpec | None = None

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        _refuse_twice("feature", names)
        _refuse_twice("vertical", [vertical.name for vertical in self.verticals])
        if not self.verticals:
            raise SchemaError(f"schema {self.name!r}: needs at least one vertical")
        if not self.side("ad"):
            raise SchemaError(f"schema {self.name!r}: needs at least one feature of side 'ad'")
        for vertical in self.verticals:
            if unknown := set(vertical.features) - set(names):
                raise SchemaError(f"vertical {vertical.name!r}: unknown feature {sorted(unknown)[0]!r}")
            if vertical.features and not any(feature.name in vertical.features for feature in self.side("ad")):
                raise SchemaError(f"vertical {vertical.name!r}: needs at least one feature of side 'ad'")
        if leaked := set(self.tasks) & {feature.source for feature in self.features}:
            raise SchemaError(f"outcome {sorted(leaked)[0]!r} is also a feature: outcomes are never inputs")

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Every outcome that some vertical predicts, once, in order of first mention."""
        return tuple(dict.fromkeys(task for vertical in self.verticals for task in vertical.tasks))

    @cached_property
    def rows(self) -> int:
        """Rows of the stacked embedding table over all features."""
        return sum(feature.rows for feature in self.ordered)

    @cached_property
    def ordered(self) -> tuple[Feature, ...]:
        """All features in encoding order: user, context, ad; within a side ids and categories, then numbers."""
        return tuple(feature for side in SIDES for feature in self.side(side))

    def side(self, side: Side) -> tuple[Feature, ...]:
        """One side's features in encoding order: ids and categories as in the file, then numbers as in the file."""
        mine = [feature for feature in self.features if feature.side == side]
        return tuple(sorted(mine, key=lambda feature: feature.kind == "number"))

    def vertical(self, name: str) -> Vertical:
        """The vertical of that name; `KeyError` if there is none."""
        return {vertical.name: vertical for vertical in self.verticals}[name]

    def for_vertical(self, name: str) -> "Schema":
        """The schema as this vertical's student sees it: its features and itself only."""
        vertical = self.vertical(name)
        kept = tuple(f for f in self.features if not vertical.features or f.name in vertical.features)
        return replace(self, features=kept, verticals=(vertical,))

    @cached_property
    def digest(self) -> str:
        """sha256 in hex over what a served tensor depends on: features, history and tasks, not budgets or columns."""
        parts: dict[str, Any] = {"features": [_plain(f, skip=("column",)) for f in self.ordered]}
        parts |= {"tasks": list(self.tasks), **self._history()}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @cached_property
    def blocks_digest(self) -> str:
        """The digest without the history: what a logged impression carries, for its blocks depend on no more."""
        return replace(self, history=None).digest

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or TOML; `from_dict` reads them back to an equal schema."""
        return {
            "name": self.name,
            "columns": _plain(self.columns),
            "feature": [_plain(feature) for feature in self.features],
            "vertical": [_plain(vertical) for vertical in self.verticals],
            **self._history(),
        }

    def _history(self) -> dict[str, Any]:
        spec = self.history
        return {"history": _plain(spec, skip=() if spec.spaces else ("spaces",))} if spec else {}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Schema":
        """Build and check a schema; unknown keys and wrong types raise `SchemaError`."""
        if not isinstance(raw, Mapping):
            raise SchemaError(f"schema: expected a table, got {raw!r}")
        if unknown := set(raw) - {"name", "columns", "feature", "vertical", "history"}:
            raise SchemaError(f"schema: unknown key {sorted(unknown)[0]!r}")
        return cls(
            name=str(raw.get("name", "")),
            features=tuple(_build(Feature, entry) for entry in _list(raw, "feature")),
            verticals=tuple(_build(Vertical, entry) for entry in _list(raw, "vertical")),
            columns=_build(Columns, raw.get("columns", {})),
            history=_build(HistorySpec, raw["history"]) if "history" in raw else None,
        )

    @classmethod
    def load(cls, path: Path) -> "Schema":
        """Read a schema from a `.toml` or `.json` file; the error names the file."""
        try:
            text = path.read_text(encoding="utf-8")
            return cls.from_dict(json.loads(text) if path.suffix == ".json" else tomllib.loads(text))
        except (SchemaError, ValueError) as error:
            raise SchemaError(f"{path}: {error}") from error


def _build(kind: type[T], entry: Any) -> T:
    name = kind.__name__.lower().removesuffix("spec")
    if not isinstance(entry, Mapping):
        raise SchemaError(f"{name}: expected a table, got {entry!r}")
    label = f"{name} {entry.get('name', '')!r}"
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name in values:
            _check_type(f"{label}: {field.name}", field.type, values[field.name])
    try:
        return kind(**values)
    except TypeError as error:
        raise SchemaError(f"{label}: {error}") from error


def _list(raw: Mapping[str, Any], key: str) -> list[Any]:
    entries = raw.get(key, [])
    if not isinstance(entries, list):
        raise SchemaError(f"schema: {key} must be a list of tables, got {entries!r}")
    return entries


def _check_type(where: str, annotation: Any, value: Any) -> None:
    said, fits = _type_of(annotation)
    if not isinstance(value, tuple):
        if said.startswith("a list") or not fits(value):
            raise SchemaError(f"{where}: expected {said}, got {value!r}")
    elif not said.startswith("a list") or not all(fits(item) for item in value):
        raise SchemaError(f"{where}: expected {said}, got {list(value)!r}")


_LISTS: dict[Any, tuple[str, tuple[type, ...]]] = {
    tuple[str, ...]: ("a list of text", (str,)),
    tuple[int, ...]: ("a list of integers", (int,)),
    tuple[float, ...]: ("a list of numbers", (int, float)),
}


def _type_of(annotation: Any) -> tuple[str, Callable[[Any], bool]]:
    """How a field's type is called in a file, and whether a value, or each item of a list, is of it."""
    if annotation is str or get_origin(annotation) is Literal:
        return "text", lambda value: type(value) is str
    if annotation is int:
        return "an integer", lambda value: type(value) is int
    if annotation is float:
        return "a number", lambda value: type(value) in (int, float)
    said, kinds = _LISTS.get(annotation, ("a list of integers or text", (int, str)))
    return said, lambda item: type(item) in kinds


def _plain(value: Any, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    plain = {key: list(item) if isinstance(item, tuple) else item for key, item in vars(value).items()}
    return {key: item for key, item in plain.items() if key not in skip}


def _refuse_twice(what: str, names: list[str]) -> None:
    for name in names:
        if not name or names.count(name) > 1:
            raise SchemaError(f"{what} {name!r}: the name must be given, and once only")

"""What a training run can be told: a TOML file over the defaults here; unknown keys are refused."""

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from exfm.distill.counters import CounterOptions


class ConfigError(ValueError):
    """A configuration has an unknown key or a value of the wrong kind; the message names file and key."""


@dataclass(frozen=True)
class StreamOptions:
    """How the log is walked.

    Attributes:
        chunk: rows that the teacher annotates before it learns any of them.
        batch: rows of one step, roughly: a chunk's rows are split evenly.
        maturity_s: seconds after which the outcome of an impression counts as known.
        holdout_s: seconds at the log's end that the published students have not learned; the figures go on to the end.
    """

    chunk: int = 512
    batch: int = 256
    maturity_s: float = 3600.0
    holdout_s: float = 0.0


@dataclass(frozen=True)
class Rates:
    """Step sizes, and the moving average of dense weights that predicts.

    Attributes:
        dense: Adam's, for everything but the table.
        table: row-wise Adagrad's, for embeddings.
        first_order: the same for first-order weights.
        average: decay per step of the moving average.
        multipliers: factors on `first_order` by feature.
    """

    dense: float = 1e-3
    table: float = 0.05
    first_order: float = 0.003
    average: float = 0.95
    multipliers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TeacherOptions:
    """The teacher.

    Attributes:
        also: outcomes of the log that it learns besides those of the verticals.
        model: arguments of `exfm.models.teacher.Teacher`.
        rates: its step sizes.
        table: where its embeddings are: "" for memory, or `lazy:FOLDER[,FOLDER...][?buckets=N]` for a table on disk.
    """

    also: tuple[str, ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    rates: Rates = Rates(average=0.98)
    table: str = ""


@dataclass(frozen=True)
class StudentOptions:
    """The students: backbone's name, embedding width, the backbone's own arguments, and rates."""

    backbone: str = "dot"
    dimension: int = 16
    model: Mapping[str, Any] = field(default_factory=dict)
    rates: Rates = Rates()


@dataclass(frozen=True)
class LiteOptions(StudentOptions):
    """The smaller students of tier `lite`; with `train` false there are none.

    So few weights bear larger steps than a full student's.
    """

    backbone: str = "linear"
    dimension: int = 8
    rates: Rates = Rates(dense=3e-3, table=0.2)
    train: bool = True


@dataclass(frozen=True)
class DistillOptions:
    """ExFM's knobs.

    Attributes:
        label_scale: alpha of Eq 4.
        gradient_scale: beta of Eq 4.
        weight: w of Eq 5, of the loss on the teacher's label.
        adapter_weight: of the loss on the adapter's label (Eq 7).
        adapter_rate: step size of the adapter's own optimizer.
        hidden: width of the auxiliary heads.
    """

    label_scale: float = 1.0
    gradient_scale: float = 1.0
    weight: float = 2.0
    adapter_weight: float = 2.0
    adapter_rate: float = 5e-3
    hidden: int = 32


@dataclass(frozen=True)
class HistoryOptions:
    """What the students see of a user's past embeddings (LoopFM); with a `length` of 0 nothing.

    Attributes:
        length: the most events.
        delay_ms: an event counts when it is older than this: how long the online store takes to have it, from the
            impression through window, join and annotation to the store; has to be given where there is a length.
        model: arguments of `exfm.models.history.HistoryTokens`.
    """

    length: int = 0
    delay_ms: int = -1
    model: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.length > 0 and self.delay_ms < 0:
            raise ConfigError(
                "history.delay_ms: must be given, >= 0, where history.length is: the milliseconds from an impression "
                "until the online store has its embedding (attribution window, lateness, join, annotation, store)"
            )


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a run depends on besides the data."""

    seed: int = 0
    prior_strength: float = 20.0
    stream: StreamOptions = StreamOptions()
    teacher: TeacherOptions = TeacherOptions()
    student: StudentOptions = StudentOptions()
    lite: LiteOptions = LiteOptions()
    distill: DistillOptions = DistillOptions()
    counters: CounterOptions = field(default_factory=CounterOptions)
    history: HistoryOptions = HistoryOptions()

    def __post_init__(self) -> None:
        if self.stream.chunk < 1 or self.stream.batch < 1:
            raise ConfigError(f"stream: chunk and batch must be >= 1, got {self.stream.chunk} and {self.stream.batch}")
        if not self.counters.keys:
            raise ConfigError("counters.keys: the teacher needs at least one")


def load_config(source: str, path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """The packaged configuration for a source's name, then the file at `path`, then `overrides`.

    A packaged file `kuairand.toml` is for sources named "kuairand" or "kuairand_...". Tables merge key by key.

    Raises:
        ConfigError: an unknown key, a value of the wrong kind, or an unreadable file.
    """
    merged: dict[str, Any] = {}
    for entry in sorted(resources.files("exfm.configs").iterdir(), key=lambda item: item.name):
        stem = entry.name.removesuffix(".toml")
        if entry.name.endswith(".toml") and (source == stem or source.startswith(f"{stem}_")):
            merged = _merge(merged, _parse(entry.read_text(encoding="utf-8"), entry.name))
    if path is not None:
        merged = _merge(merged, _read(path))
    return _over(TrainConfig(), _merge(merged, overrides or {}), "")


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = _parse(path.read_text(encoding="utf-8"), str(path))
        _over(TrainConfig(), raw, "")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return raw


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: {error}") from error


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


T = typing.TypeVar("T")


def _over(base: T, raw: Any, where: str) -> T:
    """`base`, a dataclass instance, with the values of a table in place of its own."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where}: expected a table, got {raw!r}")
    kinds = typing.get_type_hints(type(base))
    if unknown := set(raw) - set(kinds):
        known = ", ".join(sorted(kinds))
        raise ConfigError(f"unknown key {_path(where, sorted(unknown)[0])!r}; known here: {known}")
    values = {key: _value(kinds[key], getattr(base, key), item, _path(where, key)) for key, item in raw.items()}
    return dataclasses.replace(base, **values)  # type: ignore[type-var]


def _value(kind: Any, base: Any, raw: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _over(base, raw, where)
    if isinstance(base, Mapping):
        if not isinstance(raw, Mapping):
            raise ConfigError(f"{where}: expected a table, got {raw!r}")
        inner = typing.get_args(kind)[1]
        return {**base, **{key: _value(inner, None, item, _path(where, key)) for key, item in raw.items()}}
    if kind is Any:
        return raw
    if isinstance(base, tuple) and isinstance(raw, list) and all(isinstance(item, str) for item in raw):
        return tuple(raw)
    if kind is float and isinstance(raw, int | float) and not isinstance(raw, bool):
        return float(raw)
    if isinstance(kind, type) and type(raw) is kind:
        return raw
    expected = "a list of strings" if isinstance(base, tuple) else kind.__name__
    raise ConfigError(f"{where}: expected {expected}, got {raw!r}")


def _path(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key

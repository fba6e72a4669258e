"""What training hands to export: one file with the weights and everything a published model needs beside them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exfm.features.schema import Schema, SchemaError
from exfm.models.backbone import ModelError
from exfm.models.lazy.embedding import frozen_embedding
from exfm.models.lazy.errors import LazyTableError
from exfm.models.lazy.setting import hashed_into
from exfm.models.student import Student
from exfm.models.teacher import Teacher

FORMAT = 1
KEYS = {"format", "kind", "schema", "vertical", "tasks", "model", "state", "quality", "lineage", "prior", "golden"}


def lite_of(vertical: str) -> str:
    """The name under which a vertical's lite student is published, as if it were a vertical's own."""
    return f"{vertical}_lite"


class CheckpointError(ValueError):
    """The file is no checkpoint of this format, or contradicts itself; the message names the file."""


@dataclass(frozen=True)
class Prior:
    """A calibrated estimate per ad, which needs no model.

    Attributes:
        ad: keys, int64 [A], ascending.
        probability: float32 [A, T].
        default: for any other ad, float32 [T].
    """

    ad: NDArray[np.int64]
    probability: NDArray[np.float32]
    default: NDArray[np.float32]


@dataclass(frozen=True)
class Checkpoint:
    """A trained model.

    Attributes:
        kind: "student" or "teacher".
        schema: a student's own schema, or the whole one for the teacher.
        tasks: the outcomes that the columns of its output stand for.
        state: the weights to serve with.
        vertical: the student's vertical; "" for the teacher.
        backbone: name of a student's backbone; "wukong" for the teacher.
        options: the remaining arguments of the model's constructor; a student's hold those of its backbone, its
            `dimension`, and under `history` those of its history encoder.
        quality: figures over the last day, each row predicted before it was learned.
        lineage: what it was made from: strings and numbers. A lite student's also has `tier`, "lite", and under
            `serves` the name of its vertical, for its schema and `vertical` bear the name that it is published under.
        prior: a student's estimates without a model.
        golden: one request by name of tensor (`exfm.features.signature.tensors_of`), for parity checks and canaries.
        home: the folder that it was read from, where a teacher's table on disk lies beside it.
    """

    kind: Literal["student", "teacher"]
    schema: Schema
    tasks: tuple[str, ...]
    state: dict[str, torch.Tensor]
    vertical: str = ""
    backbone: str = "wukong"
    options: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    lineage: dict[str, str | int | float] = field(default_factory=dict)
    prior: Prior | None = None
    golden: dict[str, NDArray[Any]] = field(default_factory=dict)
    home: Path | None = field(default=None, compare=False)

    @property
    def table_digest(self) -> bytes:
        """Of a teacher's table on disk (`exfm.models.lazy.frozen`); empty where the table is in `state`."""
        return self.state["table.digest"].numpy().tobytes() if "table" in self.options else b""

    @property
    def table_schema(self) -> Schema:
        """Whose rows the model reads; ids may be hashed into more of them in a table on disk."""
        return hashed_into(self.schema, self.options["table"]["buckets"]) if "table" in self.options else self.schema

    def build(self) -> nn.Module:
        """The model with its weights, in evaluation mode; `CheckpointError` if the weights do not fit it."""
        try:
            model = self._empty()
            model.load_state_dict(self.state)
        except (ModelError, TypeError, KeyError, RuntimeError, LazyTableError) as error:
            first = " ".join(str(error).split("\n\t")[:2])  # torch lists every tensor
            raise CheckpointError(f"{self.kind} {self.vertical or self.schema.name!r}: {first}") from error
        return model.eval()

    def build_student(self) -> Student:
        """As `build`, for a student; `CheckpointError` if this is a teacher."""
        if self.kind != "student":
            raise CheckpointError(f"expected a student's checkpoint, got a {self.kind}'s")
        model = self.build()
        assert isinstance(model, Student)
        return model

    def _empty(self) -> nn.Module:
        if self.kind == "teacher":
            return self._empty_teacher()
        own = dict(self.options)
        dimension, history = int(own.pop("dimension")), own.pop("history", None)
        return Student(self.schema, self.backbone, dimension, own, history)

    def _empty_teacher(self) -> Teacher:
        own = {name: value for name, value in self.options.items() if name != "table"}
        if "table" not in self.options:
            return Teacher(self.schema, self.tasks, **own)
        table = frozen_embedding(self.home or Path(), self.table_digest)
        return Teacher(self.table_schema, self.tasks, make_table=table.sized, **own)

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(path.suffix + ".partial")
        torch.save(self._plain(), aside)
        aside.replace(path)

    def _plain(self) -> dict[str, Any]:
        prior = {name: torch.from_numpy(array) for name, array in vars(self.prior).items()} if self.prior else {}
        return {
            "format": FORMAT,
            "kind": self.kind,
            "schema": self.schema.to_dict(),
            "vertical": self.vertical,
            "tasks": list(self.tasks),
            "model": {"backbone": self.backbone, "options": dict(self.options)},
            "state": self.state,
            "quality": self.quality,
            "lineage": self.lineage,
            "prior": prior,
            "golden": {name: torch.from_numpy(array) for name, array in self.golden.items()},
        }


def load_checkpoint(path: Path, *, mapped: bool = False) -> Checkpoint:
    """Read a checkpoint without running any code from it; `CheckpointError` names the file and what is wrong.

    Args:
        path: of the file.
        mapped: leave the weights in the file until they are looked at; the file must not change meanwhile.
    """
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # junk makes the unpickler raise nearly anything
        raise CheckpointError(f"{path}: not a readable checkpoint: {error}") from error
    if not isinstance(raw, dict) or (missing := KEYS - set(raw)):
        what = f"lacks {sorted(missing)[0]!r}" if isinstance(raw, dict) else "holds no table of entries"
        raise CheckpointError(f"{path}: not a checkpoint: {what}")
    if raw["format"] != FORMAT:
        raise CheckpointError(f"{path}: format {raw['format']!r}, this version reads {FORMAT}")
    if raw["kind"] not in ("student", "teacher"):
        raise CheckpointError(f"{path}: kind {raw['kind']!r} is neither student nor teacher")
    try:
        return replace(_parse(raw), home=path.parent)
    except (SchemaError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _parse(raw: Mapping[str, Any]) -> Checkpoint:
    prior = Prior(**{name: tensor.numpy() for name, tensor in raw["prior"].items()}) if raw["prior"] else None
    return Checkpoint(
        kind=raw["kind"],
        schema=Schema.from_dict(raw["schema"]),
        tasks=tuple(raw["tasks"]),
        state=raw["state"],
        vertical=raw["vertical"],
        backbone=raw["model"]["backbone"],
        options=raw["model"]["options"],
        quality=raw["quality"],
        lineage=raw["lineage"],
        prior=prior,
        golden={name: tensor.numpy() for name, tensor in raw["golden"].items()},
    )


def digest_of(state: Mapping[str, torch.Tensor]) -> str:
    """The first twelve digits of the sha256 of a state's names and weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:12]

"""What a starting Triton has to load, and how long that may take at the most."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

SERVER_S = 30.0
"""For the server itself, before it loads anything; it takes one or two."""
INSTANCE_S = 30.0
"""For one instance of a model besides its weights. A quarter of a second of one core is usual; on a machine whose cores
are taken it is more, and much more where an engine records graphs for a GPU. The bound is for one that hangs."""
BYTES_PER_S = 50e6
"""The least at which an instance takes its version's files in; every instance has the weights in its own memory."""


@dataclass(frozen=True)
class Model:
    """Of a model, how many instances there will be, and the bytes of the version that each has to take in."""

    instances: int
    size: int

    @property
    def bound_s(self) -> float:
        """The longest that its instances may take one after the other, as they load, seconds."""
        return self.instances * (INSTANCE_S + self.size / BYTES_PER_S)


@dataclass(frozen=True)
class Loading:
    """All that is to be loaded, by the model's name."""

    models: Mapping[str, Model]

    @classmethod
    def of(cls, repository: Path, configs: Mapping[str, str | None]) -> "Loading":
        """Read from the configurations, JSON, or None for the model's own `config.pbtxt`.

        What can't be read counts as one instance of nothing: it is Triton that says what is wrong with it.
        """
        return cls({name: _model(repository / name, text) for name, text in configs.items()})

    @property
    def bound_s(self) -> float:
        """The longest until all are ready, seconds: as if they loaded one after the other, for cores may be few."""
        return SERVER_S + sum(model.bound_s for model in self.models.values())

    def text(self) -> str:
        """For people."""
        return ", ".join(
            f"{name} ({model.instances} instance{'s' * (model.instances > 1)} of {model.size / 1e6:.1f} MB)"
            for name, model in self.models.items()
        )


def _model(home: Path, text: str | None) -> Model:
    config = model_config_pb2.ModelConfig()
    try:
        if text is None:
            text_format.Parse((home / "config.pbtxt").read_text(encoding="utf-8"), config)
        else:
            json_format.Parse(text, config)
    except (OSError, ValueError, text_format.ParseError, json_format.ParseError, RecursionError):
        return Model(1, 0)
    return Model(_instances(config), sum(_size(home / str(one)) for one in config.version_policy.specific.versions))


def _instances(config: Any) -> int:
    counts = [max(1, int(group.count)) * max(1, len(group.gpus)) for group in config.instance_group]
    return max(1, sum(counts))


def _size(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except OSError:
        return 0

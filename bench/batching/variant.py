"""The same student twice in one model repository: as published, and taking jagged batches that the caller formed."""

import shutil
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from exfm.features.signature import PROBABILITY, UNKNOWN
from serving.catalog import Vertical
from serving.repository import CONFIG

OWNER = "owner"
SUFFIX = "_jagged"
THIN_RUNNER = Path(__file__).parent / "runner" / "model.py"


def jagged_name(vertical: Vertical) -> str:
    """What the variant is called in Triton."""
    return vertical.name + SUFFIX


def write_both(published: Path, vertical: Vertical, into: Path) -> None:
    """Copy the vertical's served version into the folder `into`, which must not hold it yet, and its variant beside."""
    source, version = published / vertical.name, str(vertical.version)
    skip = shutil.ignore_patterns("__pycache__")
    for name in (vertical.name, jagged_name(vertical)):
        # Not with the published files' modes, which are read-only.
        shutil.copytree(source / version, into / name / version, ignore=skip, copy_function=shutil.copyfile)
    shutil.copy2(source / CONFIG, into / vertical.name / CONFIG)
    folder = into / jagged_name(vertical)
    _place_runner(folder / version)
    config = text_format.Parse((source / CONFIG).read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    (folder / CONFIG).write_text(text_format.MessageToString(jagged_config(config)), encoding="utf-8")


def jagged_config(published: Any) -> Any:
    """The variant's `ModelConfig`: no batch dimension, no batcher, hence no queue policy, and the `owner` input."""
    config = model_config_pb2.ModelConfig()
    config.CopyFrom(published)
    config.name += SUFFIX
    config.max_batch_size = 0
    config.ClearField("dynamic_batching")
    config.ClearField("model_warmup")
    for entry in config.input:
        entry.allow_ragged_batch = False
        entry.dims[:] = [-1, entry.dims[-1]]
    config.input.add(name=OWNER, data_type=model_config_pb2.TYPE_INT64, dims=[-1])
    outputs = {PROBABILITY: None, UNKNOWN: [-1]}
    for entry in config.output:
        entry.dims[:] = outputs[entry.name] or list(entry.dims)
    return config


def _place_runner(folder: Path) -> None:
    """The published runner becomes a module that the thin one imports under its own name."""
    package = folder / "exporter" / "runner"
    (folder / "model.py").rename(package / "model.py")
    shutil.copy2(THIN_RUNNER, folder / "model.py")

"""The same version twice in one model repository, in both forms that `exfm-export --batching` publishes."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf import text_format

from exporter.configure import FORMERS, FRONTEND, TRITON, Batching, Former, model_config
from serving.catalog import Batching as Formed
from serving.catalog import Vertical
from serving.published import CONFIG


@dataclass(frozen=True)
class Forms:
    """Both, as the frontend sees them: what Triton batches, and what comes batched."""

    triton: Vertical
    frontend: Vertical


def write_both(published: Path, vertical: Vertical, into: Path, batching: Batching | None = None) -> Forms:
    """Put the vertical's served version into the folder `into`, which must not hold it yet, once in each form.

    Whichever form it was published in, files, encoding and runner are those of the version.
    """
    asked = batching or Batching()
    for by in FORMERS:
        home = into / _name(vertical, by)
        # Not with the published files' modes, which are read-only; with the files called __pycache__.
        folder = published / vertical.name / str(vertical.version)
        shutil.copytree(folder, home / folder.name, copy_function=shutil.copyfile)
        config = model_config(vertical.schema, vertical.version, replace(asked, by=by))
        config.name = home.name
        (home / CONFIG).write_text(text_format.MessageToString(config), encoding="utf-8")
    formed = Formed(asked.instances, asked.max_requests)
    return Forms(
        replace(vertical, name=_name(vertical, TRITON), batching=None),
        replace(vertical, name=_name(vertical, FRONTEND), batching=formed),
    )


def _name(vertical: Vertical, by: Former) -> str:
    return f"{vertical.name}_by_{by}"

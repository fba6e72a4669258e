"""A factory named on the command line, `FILE.py:NAME` or `PACKAGE.MODULE:NAME`: the user's own code, run as such."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from exfm.features.schema import Schema
from exporter.errors import ExportRefusedError


def build_model(spec: str, schema: Schema) -> nn.Module:
    """Call the factory that `spec` names with the schema.

    What lies beside a file, or in the working directory for a dotted name, can be imported by it.

    Raises:
        ExportRefusedError: there is no such factory, it fails, or what it returns is no module of torch's.
    """
    where, colon, name = spec.rpartition(":")
    if not colon or not where or not name.isidentifier():
        raise ExportRefusedError(f"model: {spec!r} is neither FILE.py:FACTORY nor PACKAGE.MODULE:FACTORY")
    path = Path(where) if where.endswith(".py") else None
    if path is not None and not path.is_file():
        raise ExportRefusedError(f"model: {path}: no such file")
    with _importable(path.resolve().parent if path else Path.cwd()):
        module = _guarded(spec, lambda: _execute(path) if path else importlib.import_module(where))
        factory = getattr(module, name, None)
        if not callable(factory):
            raise ExportRefusedError(f"model: {where} has no function or class {name!r}")
        made = _guarded(spec, lambda: factory(schema))
    if not isinstance(made, nn.Module):
        raise ExportRefusedError(f"model: {spec} returned {type(made).__name__}, not a torch.nn.Module")
    return made


def first_line(error: BaseException) -> str:
    """What a foreign exception says, on one line with its type."""
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _execute(path: Path) -> ModuleType:
    name = f"_own_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    spec.loader.exec_module(module)
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """As Python does with the folder of the script that it runs."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(str(folder))


def _guarded(spec: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (Exception, SystemExit) as error:  # whatever a user's code does, also a script that ends itself
        raise ExportRefusedError(f"model: {spec}: {first_line(error)}") from error

"""Where Ray is: `ray:N`, the annotator's own on this machine, or `ray://host:port/N`, a cluster that is there."""

import logging
import os
import re
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from exfm.augment.annotate.workers.protocol import WorkersUnavailableError
from exfm.events.urls import UrlError

CONNECT_S = 5.0
_FORM = re.compile(r"(?://((?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5})/)?([1-9]\d{0,3})")


@dataclass(frozen=True)
class RayPlace:
    """A parsed URL.

    Attributes:
        address: host:port that `ray start` is given to join the cluster (its port is 6379, not the 10001 of Ray's
            client protocol), of which this machine is a node; "": a Ray that the annotator starts and ends.
        count: how many workers.
    """

    address: str
    count: int

    def __str__(self) -> str:
        return f"ray://{self.address}/{self.count}" if self.address else f"ray:{self.count}"

    @classmethod
    def parse(cls, rest: str) -> "RayPlace":
        """The place behind `ray:`; `UrlError` if it is none."""
        found = _FORM.fullmatch(rest)
        if not found:
            raise UrlError(f"workers: {f'ray:{rest}'!r} is neither ray:N nor ray://host:port/N, N workers, 1 to 9999")
        return cls(found[1] or "", int(found[2]))

    @contextmanager
    def connected(self) -> Iterator[None]:
        """This process takes part in that Ray, and in no other; `WorkersUnavailableError` if it can't."""
        if ray.is_initialized():
            raise WorkersUnavailableError(f"{self}: this process has a Ray already")
        home = "" if self.address else tempfile.mkdtemp(prefix="exfm-ray-")
        try:
            with _own_sigterm():
                self._connect(home)
            yield
        finally:
            ray.shutdown()
            shutil.rmtree(home, ignore_errors=True)

    def _connect(self, home: str) -> None:
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if self.address:
                self._knock()
                ray.init(self.address, **common)
                return
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # it would write one into the home folder
            folder = str(Path(home, "ray"))  # one level down, for Ray opens it to everybody
            ray.init("local", num_cpus=self.count, include_dashboard=False, _temp_dir=folder, **common)
        except (RayError, OSError, RuntimeError, ValueError) as error:
            raise WorkersUnavailableError(f"{self}: {' '.join(str(error).split())}") from error

    def _knock(self) -> None:
        """Ray itself would try for minutes, and then end the process."""
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        except OverflowError as error:
            raise ValueError(str(error)) from error


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray answers SIGTERM by ending the process; who called had its own way."""
    main, before = threading.current_thread() is threading.main_thread(), signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if main and before is not None:
            signal.signal(signal.SIGTERM, before)

"""A recorded run: what was sent when, to be sent again. JSON Lines, one header and one line per request.

    {"format": "exfm-requests", "version": 1}
    {"offset_s": 0.0132, "request": "<base64 of a serialised exfm.ranking.v1.RankRequest>"}

`offset_s` counts from the start and never decreases. Anything that can write JSON can make such a file from its own
traffic.
"""

import base64
import binascii
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.workload.asked import Asked, Workload, WorkloadError, asked_of
from serving.rpc.pb import ranking_pb2 as pb

FORMAT, VERSION = "exfm-requests", 1


class RecordingError(ValueError):
    """The file is no recording; the message names the file and the line."""


def write_recording(path: Path, schedule_s: Iterable[float], workload: Workload) -> None:
    """Write what a drive of the workload by the schedule sends."""
    # The same few messages come again and again.
    encoded = [base64.b64encode(asked.message).decode() for asked in workload.requests]
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"format": FORMAT, "version": VERSION}) + "\n")
        for index, at_s in enumerate(schedule_s):
            file.write(json.dumps({"offset_s": float(at_s), "request": encoded[index % len(encoded)]}) + "\n")


def read_recording(path: Path, tasks: Sequence[str] = ()) -> tuple[NDArray[np.float64], Workload]:
    """The schedule, float64 [N] in seconds from the first offset's own zero, and the requests, all of one vertical.

    Args:
        path: of the file.
        tasks: what answers must score, if known.

    Raises:
        RecordingError: a line is not what it should be.
        OSError: the file can't be read.
    """
    known: dict[str, Asked] = {}
    instants: list[float] = []
    requests: list[Asked] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                raw = _object(line)
                if number == 1:
                    _check_header(raw)
                    continue
                instants.append(_offset(raw, instants))
                requests.append(_request(raw, known, tasks))
            except (ValueError, WorkloadError) as error:
                raise RecordingError(f"{path}:{number}: {error}") from error
    if not requests:
        raise RecordingError(f"{path}: holds no request")
    verticals = sorted({vertical_of(asked) for asked in known.values()})
    if len(verticals) > 1:
        raise RecordingError(f"{path}: asks verticals {', '.join(verticals)}; a replay drives one, with its own budget")
    return np.array(instants, np.float64), Workload(verticals[0], f"recording {path.name}", tuple(requests))


def vertical_of(asked: Asked) -> str:
    """Whom a request asks."""
    return str(pb.RankRequest.FromString(asked.message).vertical)


def _object(line: str) -> dict[str, Any]:
    raw = json.loads(line)
    if not isinstance(raw, dict):
        raise ValueError("expected a JSON object")
    return raw


def _check_header(raw: dict[str, Any]) -> None:
    if raw.get("format") != FORMAT or raw.get("version") != VERSION:
        raise ValueError(f'expected {{"format": "{FORMAT}", "version": {VERSION}}}')


def _offset(raw: dict[str, Any], before: Sequence[float]) -> float:
    offset = raw.get("offset_s")
    if isinstance(offset, bool) or not isinstance(offset, int | float) or not 0 <= offset < math.inf:
        raise ValueError(f"offset_s: expected a finite number >= 0, got {offset!r}")
    if before and offset < before[-1]:
        raise ValueError(f"offset_s: {offset!r} after {before[-1]!r}; the lines must be in the order of time")
    return float(offset)


def _request(raw: dict[str, Any], known: dict[str, Asked], tasks: Sequence[str]) -> Asked:
    text = raw.get("request")
    if not isinstance(text, str):
        raise ValueError("request: expected base64 text")
    if text not in known:
        try:
            known[text] = asked_of(base64.b64decode(text, validate=True), tasks)
        except binascii.Error as error:
            raise ValueError(f"request: not base64: {error}") from error
    return known[text]

"""MLPerf LoadGen as a referee that isn't ours: its arrivals, its clock, its verdict.

This is unofficial use of LoadGen, not a submission: no MLPerf benchmark, model or data set is run, and no result of it
may be called an MLPerf result.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtest.referee.job import RESULT, Carried, Job
from loadtest.referee.summary import Summary, SummaryError, parse_summary

NOTICE = "MLPerf LoadGen, used unofficially; not a submission and no MLPerf result"
LEAST_QUERIES = 5000
"""LoadGen's early stopping needs 662 queries to call a 99th percentile met, and the more the more of them are late; of
so many it lets 0.66 % be late."""
GRACE_S = 60.0
WITHIN = 0.9
"""The least share of a capacity that LoadGen must have offered for a VALID run to confirm it: within 10 %."""
NEARBY = (1.0, 0.96, 0.92)
"""Shares of a capacity that are tried. LoadGen reports the rate of the schedule that it drew, which of 5,000 queries is
off its target by 1.4 % (one standard deviation); so the least one tried lies above `WITHIN`."""
SUMMARY = "mlperf_log_summary.txt"
LOG_LINES = 5


class RefereeError(RuntimeError):
    """LoadGen gave no verdict; the message says what it said last."""


@dataclass(frozen=True)
class Ruling:
    """One run's verdict.

    Attributes:
        target_qps: the rate that LoadGen was told.
        seconds: the least length of the run.
        call: how the server was asked.
        summary: LoadGen's own words.
        carried: what the process that LoadGen ran in counted of itself.
        files: the folder that holds LoadGen's files.
    """

    target_qps: float
    seconds: float
    call: str
    summary: Summary
    carried: Carried
    files: Path

    @property
    def faults(self) -> tuple[str, ...]:
        """Why an INVALID tells nothing of the server; empty if it does. A VALID stands whatever LoadGen's process did,
        which can only have made it worse."""
        return () if self.summary.valid else tuple(self.carried.faults)

    @property
    def word(self) -> str:
        """VALID, INVALID, or INCONCLUSIVE for an INVALID that may be LoadGen's process's own doing."""
        return "VALID" if self.summary.valid else "INCONCLUSIVE" if self.faults else "INVALID"

    def confirms(self, capacity_rps: float) -> bool:
        """Whether it is VALID at a rate that was offered within 10 % of the capacity, or at more."""
        return self.summary.valid and self.summary.scheduled_qps >= WITHIN * capacity_rps

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "valid": self.summary.valid,
            "target_qps": self.target_qps,
            "qps": self.summary.scheduled_qps,
            "seconds": self.seconds,
            "call": self.call,
            "p99_ms": self.summary.percentile_ms.get(99.0),
            "unsatisfied": list(self.summary.unsatisfied),
            "tiers": dict(self.carried.tiers),
            "word": self.word,
            "faults": list(self.faults),
            "cpu_share": self.carried.cpu_share,
            "sent_late_p99_ms": self.carried.sent_late_p99_ms,
            "sent_late_share": self.carried.sent_late_share,
            "files": str(self.files),
            "notice": NOTICE,
        }


def measure(
    address: str,
    vertical: str,
    rate_rps: float,
    bound_s: float,
    out: Path,
    *,
    seconds: float = 10.0,
    candidates: str = "200",
    seed: int = 0,
    connections: int = 4,
    call: str = "rank",
    least_queries: int = LEAST_QUERIES,
) -> Ruling:
    """One Server run of LoadGen at a rate, in a process of its own; its files stay in `out`.

    Args:
        address: host:port of the ranking server.
        vertical: whom to ask.
        rate_rps: mean of the Poisson arrivals.
        bound_s: on the 99th percentile of the latency.
        out: folder for the files, made if it is missing.
        seconds: the least length; longer if the rate is so low that LoadGen could not judge.
        candidates: as `loadtest.workload.sizes.sizes_of` reads it.
        seed: of requests and arrivals.
        connections: to the server.
        call: how it is asked, one of `loadtest.driving.calls.TARGETS`.
        least_queries: the fewest that LoadGen is to send.

    Raises:
        RefereeError: LoadGen ended without a verdict.
    """
    out.mkdir(parents=True, exist_ok=True)
    for old in (SUMMARY, RESULT):
        (out / old).unlink(missing_ok=True)
    length_s = max(seconds, least_queries / rate_rps)
    job = Job(address, vertical, candidates, rate_rps, bound_s, length_s, seed, connections, call, str(out.absolute()))
    path = out / "job.json"
    path.write_text(json.dumps(asdict(job), indent=1) + "\n", encoding="utf-8")
    _run(path, length_s)
    try:
        summary = parse_summary((out / SUMMARY).read_text(encoding="utf-8"))
        carried = Carried(**json.loads((out / RESULT).read_text(encoding="utf-8")))
    except (OSError, SummaryError, ValueError, TypeError) as error:
        raise RefereeError(f"no verdict in {out}: {error}") from error
    return Ruling(rate_rps, length_s, call, summary, carried, out)


def confirm(capacity_rps: float, rule: Callable[[float], Ruling], shares: Sequence[float] = NEARBY) -> list[Ruling]:
    """Rulings at the capacity and, while they don't confirm it, a little below; the last one counts."""
    made: list[Ruling] = []
    for share in shares:
        made.append(rule(capacity_rps * share))
        if made[-1].confirms(capacity_rps):
            break
    return made


def _run(job: Path, length_s: float) -> None:
    command = [sys.executable, "-m", "loadtest.referee.sut", str(job.absolute())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=2 * length_s + GRACE_S
        )
    except subprocess.TimeoutExpired as error:
        raise RefereeError(f"LoadGen did not end within {error.timeout:g} s") from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()[-LOG_LINES:]
        raise RefereeError(f"LoadGen ended with {done.returncode}: " + "\n".join(words))

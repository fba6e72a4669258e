"""The results as a person wants to see them, held against what the product promises."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.overload.capacity import FULL_SHARE

TIERS = ("full", "trimmed", "lite", "prior", "shed")


@dataclass(frozen=True)
class Check:
    """One promise: what was measured (None: nothing was) and the bound that it must not pass."""

    name: str
    value: float | None
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the bound is kept; what wasn't measured isn't."""
        if self.value is None:
            return False
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def line(self) -> str:
        """One line of the table."""
        value = "-" if self.value is None else f"{self.value:.4g}"
        verdict, sign = "met" if self.met else "NOT", ">=" if self.at_least else "<="
        return f"  {verdict}   {self.name:<46}{value:>10}  {sign} {self.bound:.4g}"

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "value": self.value, "bound": self.bound, "met": self.met}


def checks(result: Mapping[str, Any]) -> list[Check]:
    """Every promise that the result says something about."""
    return list(_checks(result))


def _checks(result: Mapping[str, Any]) -> Iterator[Check]:
    if result["generator_cpu_share"] is not None:
        yield Check("generator's share of the CPU time", result["generator_cpu_share"], 1 / 3)
    rated = next((run["scored_goodput_rps"] for run in result["runs"] if run["multiple"] == 1), None)
    for run in result["runs"]:
        name = f"{run['multiple']}C: "
        yield Check(name + "late share of offered", run["late_share"], 0.001)
        yield Check(name + "p99 of all answers, ms", run["answers_p99_ms"], result["budget_ms"])
        yield Check(name + "p99 of answers and refusals, ms", run["p99_ms"], result["budget_ms"])
        if run["multiple"] == 1:
            yield Check(name + "full, as a rated capacity must be", run["tiers"]["full"], FULL_SHARE, at_least=True)
            continue
        yield Check(name + "sum of the tiers' shares", sum(run["tiers"].values()), 1 - 1e-9, at_least=True)
        if rated:
            yield Check(name + "scored goodput / that at C", run["scored_goodput_rps"] / rated, 0.9, at_least=True)
    if step := result.get("step"):
        yield Check("1C 10C 1C: full tier back, s", step["full_back_s"], 2.0)
    for fault in ("stall", "kill"):
        if made := result.get(fault):
            yield Check(f"{fault}: late answers", made["late"], 0)
            yield Check(f"{fault}: overshoot p99, ms", made["overshoot_p99_ms"], 2.0)
            yield Check(f"{fault}: recovery, s", made["recovery_s"], 1.0)
    if mixed := result.get("mixed"):
        yield Check("mixed: p99 of small with / without large", mixed["p99_ratio"], 1.3)
    if "frontend_ratio" in result:
        yield Check("frontend / direct Triton, medians", result["frontend_ratio"], 1.15)
    if simulation := result.get("simulation"):
        seeds, per_s = simulation["seeds"], simulation["seeds_per_s"]
        yield Check(f"simulation: violations in {seeds} seeds, {per_s:.0f}/s", simulation["violations"], 0)


def table(result: Mapping[str, Any]) -> str:
    """Runs, then promises. `goodput` is of all that a model scored, `full` beside it of the full tier alone. `others`
    is the CPU time of what else ran on the machine: it should be next to none, and may be a little below it."""
    head = "".join(f"{tier:>9}" for tier in (*TIERS, "none"))
    lines = [
        f"Capacity {result['capacity_rps']:.1f} requests/s of {result['candidates']} candidates, "
        f"budget {result['budget_ms']:g} ms, {result['seconds']:g} s a run",
        "",
        f"{'load':>5}{'offered/s':>11}{'late':>9}{'p50 ms':>8}{'p99 ms':>8}{head}"
        f"{'goodput/s':>11}{'full/s':>8}{'generator':>11}{'others':>8}",
    ]
    for run in result["runs"]:
        none = run["unanswered_share"] + run["failed_share"]
        shares = "".join(f"{share:>9.2%}" for share in (*(run["tiers"][tier] for tier in TIERS), none))
        lines.append(
            f"{run['multiple']:>4}C{run['offered_rps']:>11.1f}{run['late_share']:>9.3%}{run['p50_ms']:>8.2f}"
            f"{run['p99_ms']:>8.2f}{shares}{run['scored_goodput_rps']:>11.1f}"
            f"{run['full_goodput_rps']:>8.1f}{run['generator_cpu_share']:>11.1%}{run['other_cpu_s']:>7.2f}s"
        )
    return "\n".join([*lines, "", *_faults(result), *(check.line() for check in checks(result))])


def _faults(result: Mapping[str, Any]) -> Iterator[str]:
    for fault in ("stall", "kill"):
        if made := result.get(fault):
            full_s = "never" if made["hurt_to_full_s"] is None else f"after {made['hurt_to_full_s']:.2f} s"
            late = f"{made['late']} of {made['offered']} late since they were sent"
            due = f"{made['late_since_scheduled']} since they were due to be; others {made['other_cpu_s']:.2f}s"
            yield f"{fault}: full tier back {full_s}, from the fault on; {late}, {due}"

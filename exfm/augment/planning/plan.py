"""What annotation needs: memory, speed, lag and cost of a teacher on a cluster under a traffic, by arithmetic alone."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from exfm.augment.annotate.forward import PIECE
from exfm.augment.planning.lag import enough, lag
from exfm.augment.planning.steps import Step, note, shown

RESERVE = 0.15
"""Share of a device's memory that is left alone: allocator, libraries, what else runs there."""


class PlanError(ValueError):
    """Something that the arithmetic needs is missing; the message says what."""


@dataclass(frozen=True)
class TeacherSize:
    """What there is to hold and to compute.

    Attributes:
        rows: of all tables.
        columns: of a row: the embedding's dimension and a first-order weight per task.
        features: rows that an example looks up.
        dense_parameters: of everything but the tables.
        dense_flops: multiplications and additions of one example's forward pass, lookup not counted.
        weight_bytes: of one weight of the tables.
        activation_bytes: of one example while it is computed.
        disk_bytes: what the rows that were learned take, if the table lies on disk; 0: it lies in memory.
    """

    rows: int
    columns: int
    features: int
    dense_parameters: int
    dense_flops: float
    weight_bytes: int = 4
    activation_bytes: int = 0
    disk_bytes: int = 0

    def beside_bytes(self, batch: int) -> float:
        """Memory of everything but the tables, with batches of so many examples."""
        return 4.0 * self.dense_parameters + float(min(batch, PIECE) * self.activation_bytes)

    def kept(self, usable_bytes: float, batch: int) -> float:
        """The share of a table on disk for which there is memory beside all else."""
        return min(1.0, max(0.0, usable_bytes - self.beside_bytes(batch)) / self.disk_bytes)


@dataclass(frozen=True)
class Rates:
    """How fast a device is, as measured or given: operations and bytes per second, `link` between devices."""

    flops_per_s: float
    gather_bytes_per_s: float
    link_bytes_per_s: float = math.inf


@dataclass(frozen=True)
class Cluster:
    """What it runs on.

    Attributes:
        devices: how many.
        memory_bytes: of each.
        rates: of each, from which its speed follows; or
        examples_per_s: of each alone, as measured or given; how: the arithmetic behind it.
        link_bytes_per_s: between devices, where their speed is measured or given; None: not known.
        feed_examples_per_s: of the process that reads, encodes and writes beside the devices.
        cost_per_hour: of one device, in any currency.
    """

    devices: int
    memory_bytes: float
    rates: Rates | None = None
    examples_per_s: float = 0.0
    feed_examples_per_s: float = math.inf
    cost_per_hour: float = 0.0
    how: tuple[Step, ...] = ()
    link_bytes_per_s: float | None = None

    @property
    def usable_bytes(self) -> float:
        """Of a device's memory, less the reserve."""
        return self.memory_bytes * (1 - RESERVE)


@dataclass(frozen=True)
class Traffic:
    """What comes in, impressions per second, and how it is batched: examples, and seconds that one may wait."""

    per_s: float
    batch: int = 8192
    linger_s: float = 5.0


@dataclass(frozen=True)
class Plan:
    """The answer.

    Attributes:
        spread: whether the tables' rows are spread over the devices, or each device has them all.
        rows_per_device, bytes_per_device: of the tables; and of everything that must be in memory.
        fits: whether that leaves the reserve.
        devices_to_hold: the fewest that do; 0 if no number does.
        examples_per_s: of all devices together.
        load: traffic over that.
        keeps_up: whether it is below one.
        devices_to_keep_up: the fewest that would, as fast as these; 0 if the feeding process is what is too slow.
        lag_s: from an example's arrival to its annotation, in the mean; None if it grows for ever.
        catch_up_s: how long after an hour's stop everything is as before; None if never.
        cost_per_hour, cost_per_million: of the cluster, and of a million examples.
        steps: how it was computed, in order.
    """

    spread: bool
    rows_per_device: int
    bytes_per_device: float
    fits: bool
    devices_to_hold: int
    examples_per_s: float
    load: float
    keeps_up: bool
    devices_to_keep_up: int
    lag_s: float | None
    catch_up_s: float | None
    cost_per_hour: float
    cost_per_million: float
    steps: tuple[Step, ...]

    @property
    def good(self) -> bool:
        """It fits and keeps up."""
        return self.fits and self.keeps_up

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def plan(teacher: TeacherSize, cluster: Cluster, traffic: Traffic) -> Plan:
    """Do the arithmetic. Everything given must be positive; a cost and an activation's size may be zero.

    Raises:
        PlanError: rows must be spread over the devices, whose link is not known.
    """
    steps: list[Step] = []
    spread, rows, held, usable, hold = _memory(teacher, cluster, traffic, steps)
    each, every = _speed(teacher, cluster, spread=spread, steps=steps)
    load = note(steps, "load", f"{shown(traffic.per_s)} / {shown(every)}", traffic.per_s / every, "")
    busy = every if spread else each
    waits = (traffic.per_s, traffic.batch, traffic.linger_s, (busy, every))
    lag_s, catch_up_s = lag(*waits, steps) if load < 1 else (None, None)
    hourly = note(
        steps,
        "cost per hour",
        f"{cluster.devices} devices x {shown(cluster.cost_per_hour)}",
        cluster.devices * cluster.cost_per_hour,
        "",
    )
    million = hourly / (traffic.per_s * 3600) * 1e6
    note(steps, "cost per million", f"{shown(hourly)} / ({shown(traffic.per_s)}/s x 3,600 s) x 1e6", million, "")
    return Plan(
        spread=spread,
        rows_per_device=rows,
        bytes_per_device=held,
        fits=held <= usable,
        devices_to_hold=hold,
        examples_per_s=every,
        load=load,
        keeps_up=load < 1,
        devices_to_keep_up=enough(traffic.per_s, each) if traffic.per_s < cluster.feed_examples_per_s else 0,
        lag_s=lag_s,
        catch_up_s=catch_up_s,
        cost_per_hour=hourly,
        cost_per_million=million,
        steps=tuple(steps),
    )


def _memory(
    teacher: TeacherSize, cluster: Cluster, traffic: Traffic, steps: list[Step]
) -> tuple[bool, int, float, float, int]:
    """Whether rows are spread, how many a device holds, bytes there, bytes allowed, and devices that would do."""
    row, at_once = teacher.columns * teacher.weight_bytes, min(traffic.batch, PIECE)
    tables = note(
        steps,
        "tables",
        f"{teacher.rows:,} rows x {teacher.columns} columns x {teacher.weight_bytes} B",
        float(teacher.rows * row),
        "B",
    )
    fixed = note(
        steps,
        "beside the tables",
        f"{teacher.dense_parameters:,} weights x 4 B + {at_once:,} examples x {teacher.activation_bytes:,} B",
        teacher.beside_bytes(traffic.batch),
        "B",
    )
    usable = note(
        steps,
        "usable of a device",
        f"{shown(cluster.memory_bytes, 'B')} x {1 - RESERVE:.2f}",
        cluster.usable_bytes,
        "B",
    )
    if teacher.disk_bytes:
        _on_disk(teacher, teacher.kept(usable, traffic.batch), steps)
        held = note(steps, "memory per device", "beside the tables", fixed, "B")
        return False, teacher.rows, held, usable, int(held <= usable)
    spread = cluster.devices > 1 and tables + fixed > usable
    over = cluster.devices if spread else 1
    rows = math.ceil(teacher.rows / over)
    note(steps, "rows per device", f"{teacher.rows:,} / {over}", float(rows), "")
    held = note(steps, "memory per device", f"{rows:,} x {row} B + {shown(fixed, 'B')}", rows * row + fixed, "B")
    room = math.floor((usable - fixed) / row)
    return spread, rows, held, usable, math.ceil(teacher.rows / room) if room > 0 else 0


def _on_disk(teacher: TeacherSize, kept: float, steps: list[Step]) -> None:
    """What there is of a table on disk: each device has all of it, and what memory is left holds a share of it."""
    note(steps, "its disk", "rows that were learned", float(teacher.disk_bytes), "B")
    note(steps, "of which in memory", "(usable - beside the tables) / disk, 1 at most", kept, "")


def _speed(teacher: TeacherSize, cluster: Cluster, *, spread: bool, steps: list[Step]) -> tuple[float, float]:
    """Examples per second of a device, and of all with what feeds them."""
    if cluster.rates is None:
        steps.extend(cluster.how)
        formula = "1 / their sum" if cluster.how else "given"
        each = note(steps, "speed of a device", formula, cluster.examples_per_s, "examples/s")
        each = _exchanging(each, teacher, cluster, steps) if spread else each
    else:
        each = _speed_of(teacher, cluster.rates, cluster.devices if spread else 1, steps)
    every = note(steps, "speed of all", f"{cluster.devices} x {shown(each)}", cluster.devices * each, "examples/s")
    if math.isfinite(cluster.feed_examples_per_s):
        formula = f"min({shown(every)}, {shown(cluster.feed_examples_per_s)} of the process that feeds them)"
        every = note(steps, "speed, fed", formula, min(every, cluster.feed_examples_per_s), "examples/s")
    return each, every


def _speed_of(teacher: TeacherSize, rates: Rates, ranks: int, steps: list[Step]) -> float:
    looked_up = teacher.features * teacher.columns
    dense_s = teacher.dense_flops / rates.flops_per_s
    formula = f"{shown(teacher.dense_flops, 'FLOP')} / {shown(rates.flops_per_s, 'FLOP/s')}"
    note(steps, "dense part", formula, dense_s * 1e6, "us")
    gather_s = looked_up * teacher.weight_bytes / rates.gather_bytes_per_s
    rows = f"{teacher.features} rows x {teacher.columns} x {teacher.weight_bytes} B"
    note(steps, "lookup", f"{rows} / {shown(rates.gather_bytes_per_s, 'B/s')}", gather_s * 1e6, "us")
    exchange_s = _exchange_s(teacher, ranks, rates.link_bytes_per_s, steps) if ranks > 1 else 0.0
    return note(steps, "speed of a device", "1 / their sum", 1 / (dense_s + gather_s + exchange_s), "examples/s")


def _exchanging(alone: float, teacher: TeacherSize, cluster: Cluster, steps: list[Step]) -> float:
    """A device's speed where rows of others come over the link, which is no part of the speed alone."""
    if cluster.link_bytes_per_s is None:
        raise PlanError("the rows must be spread over the devices: how fast is the link between them?")
    exchange_s = _exchange_s(teacher, cluster.devices, cluster.link_bytes_per_s, steps)
    formula = f"1 / (1 / {shown(alone)} + {shown(exchange_s * 1e6, 'us')})"
    return note(steps, "speed, exchanging", formula, 1 / (1 / alone + exchange_s), "examples/s")


def _exchange_s(teacher: TeacherSize, ranks: int, link_bytes_per_s: float, steps: list[Step]) -> float:
    """Seconds of an example's looked-up rows, float32, on their way from the devices that have them."""
    spent_s = teacher.features * teacher.columns * 4 * (ranks - 1) / ranks / link_bytes_per_s
    rows = f"{teacher.features} rows x {teacher.columns} x 4 B x {ranks - 1}/{ranks}"
    note(steps, "exchange", f"{rows} / {shown(link_bytes_per_s, 'B/s')}", spent_s * 1e6, "us")
    return spent_s

"""`exfm-annotate plan`: what a teacher, a cluster and a traffic come to."""

import argparse
import json
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from exfm.augment.annotate.snapshots import Snapshot, SnapshotError
from exfm.augment.planning.asked import Answer, ask_torchrec
from exfm.augment.planning.plan import Cluster, Plan, PlanError, Rates, TeacherSize, Traffic, plan
from exfm.augment.planning.speed import size_of, speed_here
from exfm.augment.planning.steps import shown
from exfm.augment.planning.weightless import weightless

DESCRIBED = ("rows", "dimension", "features", "flops")
RATES = ("flops_per_s", "gather_gb_per_s", "link_gb_per_s")


def run(asked: argparse.Namespace) -> int:
    """Print the plan; 0 it fits and keeps up, 1 it doesn't; `SnapshotError` for what can't be planned with."""
    path: Path | None = asked.measure or asked.teacher
    snapshot = weightless(path) if path else None
    size = size_of(snapshot) if snapshot else _described(asked)
    if asked.weight_bytes:
        size = replace(size, weight_bytes=asked.weight_bytes)
    cluster = _cluster(asked, snapshot)
    try:
        made = plan(size, cluster, Traffic(asked.traffic, asked.batch, asked.linger_s))
    except PlanError as error:
        raise SnapshotError(f"plan: {error} --link-gb-per-s") from error
    tables = [feature.rows for feature in snapshot.schema.ordered] if snapshot else []
    if size.disk_bytes:
        answer = Answer(False, None, "not asked: the table lies on disk")
    else:
        answer = ask_torchrec(size, cluster, asked.kind, tables)
    if asked.json:
        report = {"teacher": asdict(size), **made.to_dict(), "good": made.good, "torchrec": asdict(answer)}
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        sys.stdout.write(_text(made, cluster, answer, on_disk=bool(size.disk_bytes)))
    return 0 if made.good else 1


def _described(asked: argparse.Namespace) -> TeacherSize:
    if missing := [name for name in DESCRIBED if getattr(asked, name) is None]:
        raise SnapshotError(f"plan: --measure or --teacher names a checkpoint, or --{missing[0]} is needed")
    return TeacherSize(
        rows=asked.rows,
        columns=asked.dimension + asked.tasks,
        features=asked.features,
        dense_parameters=asked.dense_parameters,
        dense_flops=asked.flops,
    )


def _cluster(asked: argparse.Namespace, snapshot: Snapshot | None) -> Cluster:
    cluster = Cluster(
        asked.devices,
        asked.memory_gb * 1e9,
        feed_examples_per_s=asked.feed or math.inf,
        cost_per_hour=asked.cost,
        link_bytes_per_s=asked.link_gb_per_s and asked.link_gb_per_s * 1e9,
    )
    if asked.speed:
        return replace(cluster, examples_per_s=asked.speed)
    if asked.measure and snapshot:
        return _measured(snapshot, cluster, asked)
    if snapshot and snapshot.on_disk:
        raise SnapshotError(f"plan: {asked.teacher} has its table on disk; how fast is that? --measure, or --speed")
    if missing := [name.replace("_", "-") for name in RATES if getattr(asked, name) is None]:
        raise SnapshotError(f"plan: how fast is a device? --measure, --speed, or --{missing[0]}")
    flops, gather, link = (getattr(asked, name) for name in RATES)
    return replace(cluster, rates=Rates(flops, gather * 1e9, link * 1e9))


def _measured(snapshot: Snapshot, cluster: Cluster, asked: argparse.Namespace) -> Cluster:
    before = torch.get_num_threads()
    torch.set_num_threads(asked.threads)
    try:
        return speed_here(snapshot, cluster, asked.batch)
    finally:
        torch.set_num_threads(before)


def _text(made: Plan, cluster: Cluster, answer: Answer, *, on_disk: bool) -> str:
    placed = "rows spread over all devices" if made.spread else "each device has all rows"
    placed = "each device has all rows on its disk" if on_disk else placed
    lines = [*map(str, made.steps), "", f"placement             {placed}"]
    if made.fits:
        lines.append("memory                it fits")
    else:
        enough = f"{made.devices_to_hold:,} devices would hold it" if made.devices_to_hold else "no number of them does"
        lines.append(f"memory                IT DOES NOT FIT: {shown(made.bytes_per_device, 'B')} per device; {enough}")
    if made.keeps_up:
        lines.append(f"traffic               it keeps up, at {made.load:.0%} of what {cluster.devices} can do")
    else:
        enough = (
            f"{made.devices_to_keep_up:,} devices would keep up" if made.devices_to_keep_up else "feeding is too slow"
        )
        lines.append(f"traffic               IT CAN NOT KEEP UP: {made.load:.2f} times what it can do; {enough}")
    return "\n".join([*lines, f"torchrec's planner    {answer.said}", ""])

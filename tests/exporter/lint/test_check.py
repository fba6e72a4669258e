from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exfm.features.schema import Schema
from exporter.configure import FORMERS, Batching, Former, model_config
from exporter.home import CONFIG
from exporter.lint.check import lint_bytes, lint_config, lint_home, lint_repository
from exporter.lint.facts import Facts, Host
from exporter.lint.finding import Finding
from exporter.signing import NO_KEYS

Put = Callable[..., Path]
HOST = Host(cores=4, gpus=0)
FIELDS = (
    'name: "m"',
    'backend: "onnxruntime"',
    "max_batch_size: -3",
    "version_policy { specific { versions: -1 } }",
    "version_policy { all {} }",
    "dynamic_batching { priority_levels: 3 priority_queue_policy { key: 9 value { timeout_action: DELAY } } }",
    "dynamic_batching { preferred_batch_size: [-1, 99] max_queue_delay_microseconds: 18446744073709551615 }",
    "instance_group { kind: KIND_GPU gpus: [-1, 7] count: -5 }",
    'parameters { key: "schema_hash" }',
    'parameters { key: "intra_op_thread_count" value { string_value: "²" } }',
    'input { name: "x" data_type: TYPE_INT64 dims: [-1] allow_ragged_batch: true }',
    "optimization { cuda { graphs: true graph_spec { graph_lower_bound {} } } }",
    "ensemble_scheduling {}",
    "model_metrics { metric_control {} }",
)


def severities(findings: list[Finding]) -> set[str]:
    return {finding.severity for finding in findings}


def test_what_is_published_has_no_error_and_no_warning(put: Put, tmp_path: Path) -> None:
    put(tmp_path)
    (findings,) = lint_repository(tmp_path, NO_KEYS, HOST).values()
    assert severities(findings) <= {"advice"}


def test_a_real_export_has_no_error_and_no_warning(published_repository: Path) -> None:
    for findings in lint_repository(published_repository, NO_KEYS, HOST).values():
        assert severities(findings) <= {"advice"}


def test_a_change_by_hand_is_found_and_explained(put: Put, tmp_path: Path) -> None:
    home = put(tmp_path).parent
    text = (home / CONFIG).read_text()
    (home / CONFIG).write_text(text.replace("allow_timeout_override: true", "allow_timeout_override: false"))
    rules = {finding.rule: finding for finding in lint_home(home, NO_KEYS, HOST)}
    assert {"edited-by-hand", "timeout-override-off"} <= set(rules)
    assert "rollback feed_click --to 1" in rules["edited-by-hand"].mend


def test_a_damaged_version_is_found(put: Put, tmp_path: Path) -> None:
    folder = put(tmp_path)
    (folder / "deep" / "file").unlink()
    assert "version-damaged" in {finding.rule for finding in lint_home(folder.parent, NO_KEYS, HOST)}


def test_a_version_that_is_not_there_is_found(put: Put, tmp_path: Path) -> None:
    folder = put(tmp_path)
    folder.rename(tmp_path / "gone")
    assert "version-missing" in {finding.rule for finding in lint_home(folder.parent, NO_KEYS, HOST)}


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff"])
def test_a_home_without_a_readable_configuration(put: Put, tmp_path: Path, content: bytes | None) -> None:
    home = put(tmp_path).parent
    (home / CONFIG).unlink()
    if content is not None:
        (home / CONFIG).write_bytes(content)
    rules = {finding.rule for finding in lint_home(home, NO_KEYS, HOST)}
    assert rules & {"unreadable", "version-not-pinned"}


@given(st.binary() | st.text().map(str.encode) | st.lists(st.sampled_from(FIELDS)).map(lambda x: "\n".join(x).encode()))
@example(b'ensemble_scheduling { step { input_map { key: "a" value: "b" } } }' * 50)
@example(b"#" * 10)
def test_any_bytes_give_findings(content: bytes) -> None:
    manifest = {"tensors": [{"name": "x", "dtype": "int64", "width": 1}], "tasks": ["a"], "budget_ms": 25.0}
    for facts in (Facts("m", HOST), Facts("m", HOST, manifest, frozenset({"model.py"}))):
        found = lint_bytes(content, facts)
        assert found  # none of these is a whole configuration
        assert all(finding.what and finding.effect and finding.mend for finding in found)


def test_the_skeleton_from_the_reference_is_accepted() -> None:
    text = """
    name: "m" backend: "python" max_batch_size: 8
    version_policy { specific { versions: 3 } }
    instance_group { count: 3 kind: KIND_CPU }
    parameters { key: "schema_hash" value { string_value: "abc" } }
    dynamic_batching {
      priority_levels: 2 default_priority_level: 1
      default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 25000
        allow_timeout_override: true max_queue_size: 64 }
      priority_queue_policy { key: 2 value { timeout_action: DELAY default_timeout_microseconds: 5000
        allow_timeout_override: true max_queue_size: 16 } }
    }"""
    assert lint_bytes(text.encode(), Facts("m", HOST, {})) == []


@pytest.mark.parametrize("by", FORMERS)
def test_a_damaged_or_lone_configuration_of_our_own_is_not_said_to_be_batched_wrongly(own: Schema, by: Former) -> None:
    config = model_config(own, 1, Batching(by=by))
    manifests: list[dict[str, Any] | None] = [{}, None]
    for manifest in manifests:
        rules = {finding.rule for finding in lint_config(config, Facts("feed_click", HOST, manifest))}
        assert not rules & {"no-batches", "batched-twice", "tensors"}
    if by == "frontend":
        config.max_batch_size = 8
        assert "batched-twice" in {finding.rule for finding in lint_config(config, Facts("feed_click", HOST, {}))}

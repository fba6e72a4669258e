"""A real Triton loads a version beside the one that serves."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import tritonclient.grpc as triton_grpc
from google.protobuf import json_format

from exporter.home import CONFIG, parse_config
from serving.embedded.environment import TritonEnvironment
from serving.embedded.process import EmbeddedTriton
from serving.embedded.yielding import may_yield

MODEL = "feed_click"


def instances(server: int, version: Path) -> list[int]:
    """Processes of that server that load or serve that version."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if parent == server and str(version / "model.py").encode() in arguments:
                found.append(int(entry.name))
    return found


def policies(process: int) -> set[int]:
    """Of its threads, as far as they still live."""
    seen = set()
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{process}/task"):
            with suppress(OSError):
                seen.add(os.sched_getscheduler(int(thread)))
    return seen


def test_it_starts_out_of_the_others_way_and_serves_in_its_turn(
    triton_environment: TritonEnvironment, published_repository: Path, tmp_path: Path
) -> None:
    home = tmp_path / "models" / MODEL
    for version in ("1", "2"):
        shutil.copytree(published_repository / MODEL / "1", home / version)
    shutil.copyfile(published_repository / MODEL / CONFIG, home / CONFIG)
    config = parse_config((home / CONFIG).read_bytes())
    config.version_policy.specific.versions[:] = [1, 2]
    text = json_format.MessageToJson(config, preserving_proto_field_name=True, indent=None)
    began: list[set[int]] = []
    with (
        EmbeddedTriton(triton_environment, home.parent, (MODEL,), tmp_path / "triton.log") as triton,
        triton_grpc.InferenceServerClient(triton.address) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        assert [policies(process) for process in instances(triton.pid, home / "1")] == [{os.SCHED_OTHER}] * 3
        loading = pool.submit(client.load_model, MODEL, config=text, client_timeout=60.0)
        while not loading.done():
            began += [policies(process) for process in instances(triton.pid, home / "2")]
        loading.result()
        for version in ("1", "2"):
            assert client.is_model_ready(MODEL, version)
            # A process's number is that of its main thread, which serves.
            serving = [os.sched_getscheduler(process) for process in instances(triton.pid, home / version)]
            assert serving == [os.SCHED_OTHER] * 3, version
    assert any(os.SCHED_IDLE in seen for seen in began), "what it loads, it loads aside"
    assert ({os.SCHED_IDLE} in began) == may_yield(), "the process as a whole only where it can come back"

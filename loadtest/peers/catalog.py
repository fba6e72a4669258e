"""Everything that is compared, by name."""

from collections.abc import Sequence
from pathlib import Path

from loadtest.peers.model import Model
from loadtest.peers.plain_triton import MAX_QUEUE, QUEUE_SHARE, PlainTriton
from loadtest.peers.servers.scoring import MAX_BATCH
from loadtest.peers.systems import WORKERS, Exfm, HttpPeer, System

SCRIPT = ("--model", "{model}", "--port", "{port}", "--workers", "{workers}")
BENTO_SERVE = ("{python}", "-m", "bentoml", "serve", "serve_bentoml:Peer", "--working-dir", "{servers}")

RAY = (
    ("RAY_USAGE_STATS_ENABLED", "0"),
    ("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1"),
    ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"),  # by this name, on every system: stay on loopback
)

ABOUT = {
    "exfm": "exfm-serve and the Triton that it starts, both as they are by default; the student built for serving",
    "exfm_same_onnx": "the same with the model that the peers serve, the very same ONNX file",
    "triton": (
        f"Triton called directly over gRPC: its dynamic batcher, up to {MAX_BATCH} requests, {WORKERS} instances; the "
        "model is run by this product's own runner with ONNX Runtime in Triton's Python backend, as the wheel that the "
        "server comes in lacks Triton's own ONNX Runtime backend"
    ),
    "triton_queue_timeouts": (
        f"the same, runner and backend included, with a queue of {MAX_QUEUE} that "
        f"rejects what has waited for {QUEUE_SHARE:.0%} of the budget"
    ),
    "fastapi": f"FastAPI with ONNX Runtime under uvicorn and uvloop: {WORKERS} processes, no batching, as it has none",
    "mosec": f"mosec: its own front, batches of up to {MAX_BATCH} within its least wait of 1 ms, {WORKERS} processes",
    "bentoml": f"BentoML: {WORKERS} processes, one request at a time, as raw bytes can't be batched there",
    "ray": f"Ray Serve, throughput-optimised: batches of up to {MAX_BATCH} without a wait, {WORKERS} replicas",
    "litserve": f"LitServe: batches of up to {MAX_BATCH} without a wait, its fast queue, {WORKERS} processes",
}
"""How each is set up, for people."""


def systems(student: Model, naive: Model, cache: Path, serve_arguments: Sequence[str] = ()) -> list[System]:
    """All systems; `exfm` serves the student that was built for it, everything else the naive model."""
    arguments = tuple(serve_arguments)
    return [
        Exfm("exfm", student, arguments),
        Exfm("exfm_same_onnx", naive, arguments),
        PlainTriton("triton", naive),
        PlainTriton("triton_queue_timeouts", naive, queue_timeouts=True),
        *http_peers(naive, cache),
    ]


def http_peers(model: Model, cache: Path) -> list[HttpPeer]:
    """The peers that are called over HTTP."""
    return [
        HttpPeer(
            "fastapi",
            model,
            ("fastapi==0.165.0", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0"),
            ("{python}", "{servers}/serve_fastapi.py", *SCRIPT),
            cache,
        ),
        HttpPeer("mosec", model, ("mosec==0.9.8",), ("{python}", "{servers}/serve_mosec.py", *SCRIPT), cache),
        HttpPeer(
            "bentoml",
            model,
            ("bentoml==1.4.39",),
            (*BENTO_SERVE, "--host", "127.0.0.1", "--port", "{port}"),
            cache,
            (("BENTOML_DO_NOT_TRACK", "True"), ("BENTOML_HOME", str(cache / "bentoml-home"))),
        ),
        HttpPeer(
            "ray",
            model,
            ("ray[serve]==2.60.0",),
            ("{python}", "{servers}/serve_ray.py", *SCRIPT),
            cache,
            RAY,
        ),
        HttpPeer("litserve", model, ("litserve==0.2.19",), ("{python}", "{servers}/serve_litserve.py", *SCRIPT), cache),
    ]

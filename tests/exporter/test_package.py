import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from exfm.features.schema import Schema
from exporter.home import MANIFEST, SIGNATURE
from exporter.integrity import hashes_of
from exporter.package import seal, write_parts
from exporter.signing import make_key


def test_parts_lie_where_the_runner_looks(own: Schema, tmp_path: Path) -> None:
    write_parts(tmp_path, own, {"prior": {"ad": np.arange(3)}})
    assert Schema.load(tmp_path / "schema.json") == own
    assert {"model.py", "prior.npz", "exfm/__init__.py", "exfm/features/encoding.py"} <= set(hashes_of(tmp_path))


def test_no_bytecode_is_ever_written_beside_the_code(own: Schema, tmp_path: Path) -> None:
    write_parts(tmp_path, own, {})
    before = hashes_of(tmp_path)
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import exfm.features.encoding as e; print(e.__file__)"
    done = subprocess.run([sys.executable, "-c", script], cwd="/", check=True, capture_output=True, text=True)
    assert done.stdout.startswith(str(tmp_path))
    assert hashes_of(tmp_path) == before


def test_sealing_signs_the_manifests_exact_bytes(tmp_path: Path) -> None:
    signer = make_key(tmp_path / "key.pem")
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "model.onnx").write_bytes(b"graph")
    seal(staged, 4, b"config", {"vertical": "v"}, signer)
    manifest = (staged / MANIFEST).read_bytes()
    assert json.loads(manifest)["files"] == hashes_of(staged)
    assert set(hashes_of(staged)) == {"model.onnx", "published.pbtxt"}
    assert (staged / SIGNATURE).read_bytes() == signer.sign(manifest)  # ed25519 is deterministic

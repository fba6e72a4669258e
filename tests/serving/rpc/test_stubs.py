import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_checked_in_stubs_are_what_the_contract_generates(tmp_path: Path) -> None:
    flags = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    contract = "proto/exfm/ranking/v1"
    command = ["-m", "grpc_tools.protoc", f"-Iserving/rpc/pb={contract}", *flags, f"{contract}/ranking.proto"]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "serving/rpc/pb").iterdir()}
    assert set(made) == {"ranking_pb2.py", "ranking_pb2.pyi", "ranking_pb2_grpc.py"}
    for name, text in made.items():
        assert (ROOT / "serving/rpc/pb" / name).read_text() == text, f"{name} is stale; run `make stubs`"

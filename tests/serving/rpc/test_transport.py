import os
import subprocess
import sys

import pytest

from serving.rpc.transport import CHOICE, VARIABLE

_TELL = """
import os, sys
import serving.command
names = list(sys.modules)
print(os.environ["GRPC_EXPERIMENTS"], names.index("serving.rpc.transport") < names.index("grpc"))
"""


@pytest.mark.parametrize("given", [None, "tcp_frame_size_tuning"])
def test_the_server_chooses_before_grpc_is_imported_unless_the_user_has(given: str | None) -> None:
    others = {name: value for name, value in os.environ.items() if name != VARIABLE}
    env = others if given is None else {**others, VARIABLE: given}
    told = subprocess.run([sys.executable, "-c", _TELL], env=env, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [given or CHOICE, "True"]


def test_grpc_knows_the_choice_by_name() -> None:
    """Of an experiment that it does not know it says so."""
    code = "import grpc; grpc.insecure_channel('127.0.0.1:1').close()"
    for choice, said in ((CHOICE, False), ("-no_such_experiment", True)):
        env = {**os.environ, VARIABLE: choice}
        told = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert ("xperiment" in told.stderr) is said, told.stderr

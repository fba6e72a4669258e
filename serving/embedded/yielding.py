"""Whether a program started from here could go into the idle class and come back."""

import shutil
import subprocess

VARIABLE = "EXFM_STUB_MAY_YIELD"
"""Set for `start_stub.sh` where it could."""
_THERE_AND_BACK = ("chrt", "--idle", "0", "chrt", "--other", "0", "true")
_TRY_S = 5.0


def may_yield() -> bool:
    """Whether the idle class can be left again here, and the programs are there that it takes (util-linux).

    Linux lets only those back that have `CAP_SYS_NICE`, or a limit of niceness (`RLIMIT_NICE`) of 20 and more. Tried by
    programs, for a privilege of this process may end where another one starts.
    """
    if not shutil.which("flock"):
        return False
    try:
        return not subprocess.run(_THERE_AND_BACK, capture_output=True, check=False, timeout=_TRY_S).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False

"""What the sharded teacher needs beyond the rest, and a word on how to install it."""

import importlib

INSTALL = (
    "pip install 'exfm-serving[sharded]' && "
    "pip install --no-deps torchrec==1.9.2 fbgemm-gpu-cpu==1.8.0 (fbgemm-gpu==1.8.0 where there is a GPU)"
)
"""`--no-deps`, for torchrec asks for the CUDA build of fbgemm by name."""


class ShardingError(ValueError):
    """The teacher can't be sharded here, or a folder holds no sharded teacher; the message says why."""


def require_torchrec() -> None:
    """Import torchrec; `ShardingError` with the lines that install it, if that fails."""
    try:
        importlib.import_module("torchrec")
    except (ImportError, OSError) as error:  # a library of fbgemm that misfits torch is an OSError
        raise ShardingError(f"a sharded teacher needs torchrec ({error}); {INSTALL}") from error

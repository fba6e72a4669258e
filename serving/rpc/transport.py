"""Imported before grpc: the program's sockets are polled by its calls, as before gRPC's event engine.

gRPC reads the choice once, when it is imported. Per call and side the engine's threads cost 0.06 ms of a processor more
(docs/decisions/0012); who sets `GRPC_EXPERIMENTS` has chosen.
"""

import os

VARIABLE = "GRPC_EXPERIMENTS"
CHOICE = "-event_engine_client,-event_engine_listener"

os.environ.setdefault(VARIABLE, CHOICE)

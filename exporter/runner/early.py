"""Imported first, it imports aside what everything after it needs: that is most of what a new instance has to do."""

import importlib

from exporter.runner.aside import aside

NEEDED = ("asyncio", "numpy", "exporter.runner.scorer")
"""`asyncio` is Triton's: its stub imports it at the first request."""

aside(lambda: [importlib.import_module(name) for name in NEEDED])

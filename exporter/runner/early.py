"""Imported first, it imports what everything after it needs: that is most of what a new instance has to do.

Before that, what was started in the idle class comes back: Triton asks a stub for signs of life, and where all cores
are taken an idle thread can't give any.
"""

import importlib
import os

from exporter.runner.absence import come_back
from exporter.runner.aside import load

NEEDED = ("asyncio", "numpy", "exporter.runner.scorer")
"""`asyncio` is Triton's: its stub imports it at the first request."""
VERSION = os.path.abspath(os.path.join(os.path.dirname(__file__), *2 * [os.pardir]))
"""The version's folder, where this file lies in one."""

come_back()
load(VERSION, lambda: [importlib.import_module(name) for name in NEEDED])

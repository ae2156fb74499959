"""What other people's programs import: the daemon's client and its errors.

    import finetui

    with finetui.connect() as client:
        table = client.query("SELECT * FROM leaderboard")  # a pyarrow.Table

Imports nothing of `store`, `engine` and `tui`, whose names a program may well have for modules of its own, and pyarrow
only when a client is made. `finetui.bottleneck` (which imports torch) loads bottleneck adapters into a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetui.errors import FinetuiError, PartialResult, StoreError, Unavailable

if TYPE_CHECKING:
    from finetui.client import Client, note
    from finetui.daemon import connect

__all__ = ["Client", "FinetuiError", "PartialResult", "StoreError", "Unavailable", "connect", "note"]

_MODULES = {"Client": "finetui.client", "note": "finetui.client", "connect": "finetui.daemon"}


def __getattr__(name: str) -> Any:
    """Imported at first use: every process of finetui imports this package."""
    if name not in _MODULES:
        raise AttributeError(f"module 'finetui' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)

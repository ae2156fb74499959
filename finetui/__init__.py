"""What other people's programs import: runs that they log, the daemon's client, and its errors.

    import finetui

    run = finetui.init(project="mine", config={"lr": 1e-4})
    run.log({"loss": 2.5})
    run.finish()

    with finetui.connect() as client:
        table = client.query("SELECT * FROM leaderboard")  # a pyarrow.Table

`finetui.TrainerCallback` is the same for the Trainer of transformers, and what is built on it.

Imports nothing of `store`, `engine` and `tui`, whose names a program may well have for modules of its own, and pyarrow
only when a client is made. `finetui.bottleneck` (which imports torch) loads bottleneck adapters into a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetui.errors import FinetuiError, PartialResult, StoreError, Unavailable

if TYPE_CHECKING:
    from finetui.callback import TrainerCallback
    from finetui.client import Client, note
    from finetui.daemon import connect
    from finetui.logged import Run, init

__all__ = [
    "Client",
    "FinetuiError",
    "PartialResult",
    "Run",
    "StoreError",
    "TrainerCallback",
    "Unavailable",
    "connect",
    "init",
    "note",
]

_MODULES = {
    "Client": "finetui.client",
    "Run": "finetui.logged",
    "TrainerCallback": "finetui.callback",
    "connect": "finetui.daemon",
    "init": "finetui.logged",
    "note": "finetui.client",
}


def __getattr__(name: str) -> Any:
    """Imported at first use: every process of finetui imports this package."""
    if name not in _MODULES:
        raise AttributeError(f"module 'finetui' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)

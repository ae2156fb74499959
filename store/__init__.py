"""The experiment store: a DuckDB projection of the run logs, and the door to it.

The daemon owns the file:

    projection = Projection(home.store)
    ingest = Ingest(projection, home.path)                     # one thread: ingest.poll() every 300 ms
    server = Server(home.socket, projection, actions)          # actions(name, body) -> reply
    server.start()
    …
    server.stop(); projection.close()

Whoever wants to ask (command line, screen, notebook) takes the client, finetui/client.py.

Importing this package imports neither DuckDB nor pyarrow; the first use of a name does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from store.ingest import Ingest
    from store.projection import Projection
    from store.server import Server

__all__ = ["Ingest", "Projection", "Server"]

_HOMES = {
    "Ingest": "store.ingest",
    "Projection": "store.projection",
    "Server": "store.server",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'store' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)

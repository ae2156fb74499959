"""The experiment store: a DuckDB projection of the run logs, and the door to it.

Whoever wants to ask (command line, screen, notebook) takes the client, which needs pyarrow but not DuckDB:

    from store import connect

    with connect(socket_path) as client:
        table = client.query("SELECT * FROM leaderboard")     # pyarrow.Table
        table = client.named("runs")                           # see store/queries.py
        reply = client.action("cancel", run=42)                # handled by the daemon

The daemon owns the file and takes the other side:

    projection = Projection(home.store)
    ingest = Ingest(projection, home.path)                     # one thread: ingest.poll() every 300 ms
    server = Server(home.socket, projection, actions)          # actions(name, body) -> reply
    server.start()
    …
    server.stop(); projection.close()

Importing this package imports neither DuckDB nor pyarrow; the first use of a name does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from store.errors import StoreError, Unavailable

if TYPE_CHECKING:
    from finetui.client import Client, connect, note
    from store.ingest import Ingest
    from store.projection import Projection
    from store.server import Server

__all__ = ["Client", "Ingest", "Projection", "Server", "StoreError", "Unavailable", "connect", "note"]

_HOMES = {
    "Client": "finetui.client",
    "connect": "finetui.client",
    "note": "finetui.client",
    "Ingest": "store.ingest",
    "Projection": "store.projection",
    "Server": "store.server",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'store' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)

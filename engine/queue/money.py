"""What runs have cost: by the price of an hour that is in the journal of each attempt."""

from __future__ import annotations

import time

import duckdb

from finetui.files import read_json, write_json
from finetui.home import Home
from store.queries import ATTEMPT_SECONDS

LEDGER = "spent.json"  # in the home: what runs that were removed have cost


def spent(cursor: duckdb.DuckDBPyConnection, home: Home) -> float:
    """Return what all runs of a home have cost, those that were removed included."""
    removed = _ledger(home)
    known = {str(run) for (run,) in cursor.execute("SELECT run FROM runs").fetchall()} if removed else set()
    return _cost(cursor) + sum(cost for run, cost in removed.items() if run not in known)


def keep_cost(cursor: duckdb.DuckDBPyConnection, home: Home, run: int) -> None:
    """Note what a run has cost before it is removed, and with it its rows. Raises OSError."""
    _write(home, _ledger(home) | {str(run): _cost(cursor, run)})


def _cost(cursor: duckdb.DuckDBPyConnection, run: int | None = None) -> float:
    """Of one run, or of all that the store knows."""
    sql = (
        f"SELECT coalesce(sum(s * price), 0) / 3600 FROM ({ATTEMPT_SECONDS}) WHERE $run IS NULL OR run = $run"
    )
    (cost,) = cursor.execute(sql, {"now": time.time(), "run": run}).fetchall()[0]
    return float(cost)


def forget_cost(home: Home, run: int) -> None:
    """A run is back, and with it its rows. Raises OSError."""
    kept = _ledger(home)
    if kept.pop(str(run), None) is not None:
        _write(home, kept)


def _write(home: Home, costs: dict[str, float]) -> None:
    write_json(home.path / LEDGER, {"removed": costs})


def _ledger(home: Home) -> dict[str, float]:
    """Return the costs of removed runs by number; none where the file is missing or damaged."""
    try:
        costs = read_json(home.path / LEDGER)["removed"]
        return {str(run): float(cost) for run, cost in costs.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}

"""MLflow's runs in its SQLite database, `mlflow.db`."""

from __future__ import annotations

import math
import sqlite3
from functools import partial
from pathlib import Path

from engine.importing import mlflow
from engine.importing.database import Database, opened
from engine.importing.foreign import Candidate, Foreign, Look, Unusable
from engine.importing.mlflow import Facts, Measure

LARGEST = 1.7976931348623157e308  # what it keeps in place of infinity
TABLES = {"experiments", "runs", "params", "metrics", "tags"}


def find(path: Path) -> Look:
    """Return the runs of a database, the earliest first. Raises Unusable."""
    with opened(path) as database:
        counts = {
            row["run_uuid"]: row["n"]
            for row in database.rows("SELECT run_uuid, count(*) AS n FROM metrics GROUP BY run_uuid")
        }
        found, deleted = [], 0
        for row in database.rows("SELECT * FROM runs ORDER BY start_time, run_uuid"):
            if row["lifecycle_stage"] == "deleted":
                deleted += 1
                continue
            uuid = row["run_uuid"]
            stamp = f"{row['status']} {row['end_time']} {counts.get(uuid, 0)}"
            found.append(Candidate("mlflow", f"{path}#{uuid}", stamp, partial(read, path, uuid)))
    gone = f"{deleted} {'run' if deleted == 1 else 'runs'} deleted in MLflow: not imported"
    return Look(found, [(str(path), gone)] if deleted else [])


def read(path: Path, uuid: str) -> Foreign:
    """Read a run. Raises Unusable."""
    with opened(path) as database:
        row = next(database.rows("SELECT * FROM runs WHERE run_uuid = ?", uuid), None)
        if row is None:
            raise Unusable(f"{path}: run {uuid} is gone")
        experiment = next(
            database.rows("SELECT name FROM experiments WHERE experiment_id = ?", row["experiment_id"]), None
        )
        facts = Facts(
            id=uuid,
            name=row["name"] or "",
            status=str(row["status"]),
            started=mlflow.seconds(row["start_time"]),
            ended=mlflow.seconds(row["end_time"]),
            user=row["user_id"],
            experiment=str(experiment["name"]) if experiment else "",
        )
        metrics = database.rows(
            "SELECT * FROM metrics WHERE run_uuid = ? ORDER BY key, timestamp, step, rowid", uuid
        )
        return mlflow.foreign(
            facts, _words(database, "params", uuid), _words(database, "tags", uuid), map(_measure, metrics)
        )


def _words(database: Database, table: str, uuid: str) -> dict[str, str]:
    rows = database.rows(f"SELECT key, value FROM {table} WHERE run_uuid = ? ORDER BY rowid", uuid)
    return {str(row["key"]): str(row["value"]) for row in rows}


def _measure(row: sqlite3.Row) -> Measure:
    """Return a metric; one that is no number is 0 in the database, with a mark, and infinity the largest number."""
    value = math.nan if row["is_nan"] else float(row["value"])
    if abs(value) >= LARGEST:
        value = math.copysign(math.inf, value)
    return Measure(str(row["key"]), int(row["step"]), row["timestamp"] / 1000, value)

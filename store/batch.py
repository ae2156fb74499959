"""Rows read from logs, gathered in memory and written in one transaction with the offsets that cover them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import duckdb
import pyarrow as pa

from store.schema import TABLES

_ARROW = {
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
}
_SCHEMAS = {
    table: pa.schema([(name, _ARROW[kind]) for name, kind, _ in columns])
    for table, (_, columns) in TABLES.items()
}

# Tables whose rows a resume takes back; `metrics` is both halves.
SUPERSEDED = ("metrics_live", "metrics_cold", "evals", "eval_examples", "samples", "flags", "checkpoints")

# Fields of an attempt that later lines do not change.
FIRST_WINS = frozenset({"started", "first_step", "first_t"})

# The least finite value counts as the best, except where more is better.
_SCORE = "CASE WHEN isfinite(value) THEN CASE WHEN ends_with(key, 'accuracy') THEN -value ELSE value END END"


@dataclass(slots=True)
class RunState:
    """What the logs change about a run after its first row; mirrors columns of `runs`."""

    run: int
    state: str = "queued"
    reason: str | None = None
    priority: int = 0
    started: float | None = None
    ended: float | None = None
    attempt: int = 0
    step: int | None = None
    total_steps: int | None = None
    phase: str | None = None
    pid: int | None = None
    parameters: int | None = None
    trainable: int | None = None


STATE_COLUMNS = tuple(item.name for item in fields(RunState))


@dataclass
class Batch:
    """Rows by table, changed runs and attempts, resumes, and the offsets they bring the logs to."""

    columns: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    n_rows: int = 0
    n_lines: int = 0
    runs: dict[int, RunState] = field(default_factory=dict)
    attempts: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    resumes: list[tuple[int, int, int]] = field(default_factory=list)  # run, attempt, from_step
    meta: dict[str, str] = field(default_factory=dict)
    offsets: dict[str, tuple[str, int]] = field(default_factory=dict)  # log: (path, byte offset)

    def __bool__(self) -> bool:
        return bool(self.offsets)

    def add(self, table: str, /, **row: Any) -> None:
        """One row; columns not given are NULL."""
        self.extend(table, 1, **{key: [value] for key, value in row.items()})

    def extend(self, table: str, n: int, /, **values: Any) -> None:
        """`n` rows: a list of n per column, or one value for all of them."""
        columns = self.columns.get(table)
        if columns is None:
            columns = self.columns[table] = {name: [] for name in _SCHEMAS[table].names}
        for name, column in columns.items():
            value = values.get(name)
            if isinstance(value, list):
                column += value
            elif n == 1:
                column.append(value)
            else:
                column += [value] * n
        self.n_rows += n

    def attempt(self, run: int, attempt: int, /, **values: Any) -> None:
        """Fields of an attempt; those that are None stay as they are, as does the first word on its start."""
        known = self.attempts.setdefault((run, attempt), {})
        for key, value in values.items():
            if value is not None and not (key in FIRST_WINS and key in known):
                known[key] = value

    # ---- writing -------------------------------------------------------------------------------------

    def apply(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Write everything inside the caller's transaction."""
        for run, attempt, from_step in self.resumes:
            _supersede(cursor, run, attempt, from_step)
        for table, columns in self.columns.items():
            rows = pa.table(columns, schema=_SCHEMAS[table])
            if table == "metrics_live":
                _insert(cursor, rows, f"INSERT INTO {table} SELECT * FROM batch ORDER BY run, key, step")
                _summarise(cursor, rows)
            elif table == "examples":
                select = "SELECT DISTINCT ON (example) b.* FROM batch b ANTI JOIN examples e USING (example)"
                _insert(cursor, rows, f"INSERT INTO examples {select}")
            else:
                _insert(cursor, rows, f"INSERT INTO {table} SELECT * FROM batch")
        self._write_runs(cursor)
        self._write_attempts(cursor)
        _upsert(cursor, "meta", "key", [{"key": key, "value": value} for key, value in self.meta.items()])
        _upsert(
            cursor,
            "ingest",
            "log",
            [{"log": log, "path": path, "byte_offset": at} for log, (path, at) in self.offsets.items()],
        )

    def _write_runs(self, cursor: duckdb.DuckDBPyConnection) -> None:
        if not self.runs:
            return
        rows = [{name: getattr(state, name) for name in STATE_COLUMNS} for state in self.runs.values()]
        sets = ", ".join(f"{name} = b.{name}" for name in STATE_COLUMNS[1:])
        waiting = "waiting_for = CASE WHEN b.state IN ('queued', 'interrupted') THEN runs.waiting_for END"
        _insert(
            cursor,
            _table("runs", rows),
            f"UPDATE runs SET {sets}, {waiting} FROM batch b WHERE runs.run = b.run",
        )

    def _write_attempts(self, cursor: duckdb.DuckDBPyConnection) -> None:
        if not self.attempts:
            return
        rows = [{"run": run, "attempt": n, **values} for (run, n), values in self.attempts.items()]
        names = _SCHEMAS["attempts"].names[2:]
        sets = ", ".join(
            f"{name} = coalesce(attempts.{name}, b.{name})"
            if name in FIRST_WINS
            else f"{name} = coalesce(b.{name}, attempts.{name})"
            for name in names
        )
        table = _table("attempts", rows)
        same = "attempts.run = b.run AND attempts.attempt = b.attempt"
        _insert(cursor, table, f"UPDATE attempts SET {sets} FROM batch b WHERE {same}")
        _insert(cursor, table, f"INSERT INTO attempts SELECT b.* FROM batch b ANTI JOIN attempts ON {same}")


def _table(name: str, rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=_SCHEMAS[name])


def _insert(cursor: duckdb.DuckDBPyConnection, rows: pa.Table, sql: str) -> None:
    """Run `sql`, in which `batch` is the Arrow table."""
    cursor.register("batch", rows)
    try:
        cursor.execute(sql)
    finally:
        cursor.unregister("batch")


def _upsert(cursor: duckdb.DuckDBPyConnection, table: str, key: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    arrow = _table(table, rows)
    sets = ", ".join(f"{name} = b.{name}" for name in arrow.schema.names if name != key)
    _insert(cursor, arrow, f"UPDATE {table} SET {sets} FROM batch b WHERE {table}.{key} = b.{key}")
    _insert(cursor, arrow, f"INSERT INTO {table} SELECT b.* FROM batch b ANTI JOIN {table} USING ({key})")


# ---- run_summary -----------------------------------------------------------------------------------------


def _summarise(cursor: duckdb.DuckDBPyConnection, rows: pa.Table) -> None:
    """Fold new points into `run_summary`; later lines win ties of step, earlier ones ties of best."""
    numbered = rows.append_column("seq", pa.array(range(len(rows)), pa.int64()))
    cursor.register("batch", numbered)
    try:
        delta = cursor.execute(_summary_of("batch", "seq")).to_arrow_table()
    finally:
        cursor.unregister("batch")
    _insert(
        cursor,
        delta,
        """
UPDATE run_summary s SET
  n = s.n + b.n,
  last = CASE WHEN b.last_step >= s.last_step THEN b.last ELSE s.last END,
  last_step = greatest(s.last_step, b.last_step),
  best = CASE WHEN b.better THEN b.best ELSE s.best END,
  best_step = CASE WHEN b.better THEN b.best_step ELSE s.best_step END
FROM (
  SELECT d.*, d.best IS NOT NULL AND (o.best IS NULL
    OR CASE WHEN ends_with(d.key, 'accuracy') THEN d.best > o.best ELSE d.best < o.best END) AS better
  FROM batch d JOIN run_summary o USING (run, key)
) b
WHERE s.run = b.run AND s.key = b.key""",
    )
    _insert(
        cursor,
        delta,
        "INSERT INTO run_summary SELECT b.* FROM batch b ANTI JOIN run_summary USING (run, key)",
    )


def _summary_of(source: str, order: str) -> str:
    return f"""
SELECT run, key,
       arg_max(value, (step, {order})) AS last, max(step) AS last_step,
       arg_min(value, ({_SCORE}, {order})) FILTER (isfinite(value)) AS best,
       arg_min(step, ({_SCORE}, {order})) FILTER (isfinite(value)) AS best_step,
       count(*) AS n
FROM {source} GROUP BY run, key"""


def _supersede(cursor: duckdb.DuckDBPyConnection, run: int, attempt: int, from_step: int) -> None:
    """Take back what earlier attempts logged after the checkpoint that this attempt went on from."""
    for table in SUPERSEDED:
        cursor.execute(
            f"DELETE FROM {table} WHERE run = $run AND attempt < $attempt AND step > $step",
            {"run": run, "attempt": attempt, "step": from_step},
        )
    cursor.execute("DELETE FROM run_summary WHERE run = $run", {"run": run})
    kept = f"(SELECT * FROM metrics WHERE run = {run:d})"
    cursor.execute(f"INSERT INTO run_summary {_summary_of(kept, '(attempt, t)')}")

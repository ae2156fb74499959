"""Rows read from logs, gathered in memory and written in one transaction with the offsets that cover them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

import duckdb
import pyarrow as pa

from finetui.log import CUT_OFF
from store import rollups, settling, summary
from store.line_fields import as_json, real
from store.lines import SUPERSEDED
from store.schema import TABLES
from store.states import WAITING, RunState, sql_list
from store.summary import Summaries

_ARROW = {
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "BOOLEAN": pa.bool_(),
}
_KINDS = {table: {name: kind for name, kind, _ in columns} for table, (_, columns) in TABLES.items()}

# Tables whose rows a resume takes back; `metrics` is both halves.
OF_STEPS = (
    *("metrics_live", "metrics_cold", "evals", "eval_examples", "samples", "drift_answers", "choice_answers"),
    *("flags", "checkpoints"),
)

# Fields of an attempt that later lines do not change.
FIRST_WINS = frozenset({"started", "first_step", "first_t"})

# Rows up to which lists as parameters are cheaper than an Arrow table, whose scan has to be set up. Few, for with each
# value of a list DuckDB looks for pandas, which the daemon does without.
_FEW = 8


@dataclass(slots=True)
class RunRow:
    """What the logs change about a run after its first row; mirrors columns of `runs`."""

    run: int
    state: str = RunState.QUEUED.value
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
    precision: str | None = None
    tokens_per_step: int | None = None
    max_length: int | None = None
    train_examples: int | None = None
    heldout_examples: int | None = None
    heldout_tokens: int | None = None
    train_set: str | None = None
    heldout_set: str | None = None
    kept_step: int | None = None
    held: bool = False
    tags: str | None = None
    queue_group: str | None = None
    name: str | None = None  # None: that of run.json
    # Not a column: the run's rows of run_summary; None until they are needed.
    summaries: Summaries | None = None
    # Nor this: by metric, whether higher is better, as run.json says; None until it is needed.
    directions: Mapping[str, bool] | None = None


_NO_COLUMNS = ("summaries", "directions")
STATE_COLUMNS = tuple(item.name for item in fields(RunRow) if item.name not in _NO_COLUMNS)


@dataclass
class Batch:
    """Rows by table, changed runs and attempts, resumes, and the offsets they bring the logs to."""

    columns: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    n_rows: int = 0
    n_lines: int = 0
    runs: dict[int, RunRow] = field(default_factory=dict)
    attempts: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    # By run; keys that changed.
    summaries: dict[int, tuple[Summaries, set[str]]] = field(default_factory=dict)
    resumes: list[tuple[int, int, int]] = field(default_factory=list)  # run, attempt, from_step
    meta: dict[str, str] = field(default_factory=dict)
    # By run: the first thing that cannot be read.
    damaged: dict[int | None, str] = field(default_factory=dict)
    new: set[int] = field(default_factory=set)  # runs of whom there is nothing in the tables
    anew: set[int] = field(default_factory=set)  # runs whose rows go first, in the same transaction
    whole: set[int] = field(default_factory=set)  # of these, those that have ended, and are here to their end
    dirs: dict[int, str] = field(default_factory=dict)  # runs whose directory has another name
    renewed: set[int] = field(
        default_factory=set
    )  # runs whose run.json was written anew, with its rows in `columns`
    # By run whose program has said it meanwhile: whether higher is better, by metric.
    turned: dict[int, Mapping[str, bool]] = field(default_factory=dict)
    # By run that is a copy: a UUID of its own, and that of the run that it is a copy of.
    copies: dict[int, tuple[str, str]] = field(default_factory=dict)
    # By run: checkpoints that are on the disk.
    present: dict[int, frozenset[str]] = field(default_factory=dict)
    offsets: dict[str, tuple[str, int]] = field(default_factory=dict)  # log: (path, byte offset)

    def __bool__(self) -> bool:
        return bool(self.offsets or self.present or self.anew)

    def add(self, table: str, /, **row: Any) -> None:
        """One row; columns not given are NULL."""
        for name, column in self._columns_of(table).items():
            column.append(row.get(name))
        self.n_rows += 1

    def extend(self, table: str, n: int, /, **values: Any) -> None:
        """`n` rows: a list of n per column, or one value for all of them."""
        for name, column in self._columns_of(table).items():
            value = values.get(name)
            column += value if isinstance(value, list) else [value] * n
        self.n_rows += n

    def _columns_of(self, table: str) -> dict[str, list[Any]]:
        columns = self.columns.get(table)
        if columns is None:
            columns = self.columns[table] = {name: [] for name in _KINDS[table]}
        return columns

    def attempt(self, run: int, attempt: int, /, **values: Any) -> None:
        """Fields of an attempt; those that are None stay as they are, as does the first word on its start."""
        known = self.attempts.setdefault((run, attempt), {})
        for key, value in values.items():
            if value is not None and not (key in FIRST_WINS and key in known):
                known[key] = value

    def event(
        self, run: int, attempt: int | None, entry: dict[str, Any], message: str, level: str = "info"
    ) -> None:
        """A row of `events`: what a line says, in words, and its other fields."""
        rest = {key: value for key, value in entry.items() if key not in ("kind", "t", "message", "level")}
        self.add(
            "events",
            run=run,
            attempt=attempt,
            t=real(entry.get("t")),
            kind=entry["kind"],
            level=level,
            message=message,
            body=as_json(rest) if rest else None,
        )

    def points(
        self,
        run: RunRow,
        attempt: int,
        step: int,
        t: float,
        values: dict[str, float],
        directions: Mapping[str, bool] = MappingProxyType({}),
    ) -> None:
        """One row of `metrics` per value, folded into the run's summaries. `directions`: whether higher is better, by
        key, where the line says so; else run.json may.
        """
        if run.summaries is None:
            raise ValueError(f"the summaries of run {run.run} are not loaded")
        n, columns = len(values), self._columns_of("metrics_live")
        for name, same in (("run", run.run), ("attempt", attempt), ("step", step), ("t", t)):
            columns[name] += [same] * n
        columns["key"] += values
        columns["value"] += values.values()
        self.n_rows += n
        known = {**run.directions, **directions} if run.directions else directions
        summary.add(run.summaries, step, values, known)
        self.summaries.setdefault(run.run, (run.summaries, set()))[1].update(values)

    # ---- writing -------------------------------------------------------------------------------------

    def apply(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Write everything inside the caller's transaction."""
        for run in self.anew:
            forget_run(cursor, run)
        for run, attempt, from_step in self.resumes:
            _supersede(cursor, run, attempt, from_step)
        for run in self.renewed:
            for table in OF_RUN_JSON:
                cursor.execute(f"DELETE FROM {table} WHERE run = $run", {"run": run})
        for run, directions in self.turned.items():
            summary.repair(cursor, run, directions)
        self._complete_new_runs()
        for table, columns in self.columns.items():
            select = _SELECTS.get(table, "SELECT * FROM {batch}")
            into = "metrics_cold" if table == "metrics_live" and self.is_settled else table
            if table == "examples":
                _execute(cursor, _FIRST_SUITE, table, columns)
            _execute(cursor, f"INSERT INTO {into} {select}", table, columns)
        if self.copies:
            own, of = map(list, zip(*self.copies.values(), strict=True))
            copies: dict[str, list[Any]] = {"run": list(self.copies), "uuid": own, "copy_of": of}
            sql = "UPDATE runs SET uuid = b.uuid, copy_of = b.copy_of FROM {batch} b WHERE runs.run = b.run"
            _execute(cursor, sql, "runs", copies)
        if self.dirs:
            moved: dict[str, list[Any]] = {"run": list(self.dirs), "dir": list(self.dirs.values())}
            sql = "UPDATE runs SET dir = b.dir FROM {batch} b WHERE runs.run = b.run"
            _execute(cursor, sql, "runs", moved)
        self._write_present(cursor)
        self._write_runs(cursor)
        self._write_attempts(cursor)
        self._write_summaries(cursor)
        if self.is_settled and (long := self._long_runs()):
            settling.make(cursor, long)
        _upsert(cursor, "meta", ["key"], [{"key": key, "value": value} for key, value in self.meta.items()])
        offsets = [
            {"run": _run_of(log, path), "log": log, "path": path, "byte_offset": at}
            for log, (path, at) in self.offsets.items()
        ]
        # By run first, which is a number: of many runs' logs, only these are looked at.
        _upsert(cursor, "ingest", ["run", "log"], offsets, lambda row: row["run"] in self.new)

    @property
    def is_settled(self) -> bool:
        """Whether all its metrics are of runs that have ended and are here whole: no row of theirs has to be moved."""
        return self.summaries.keys() <= self.whole

    def _long_runs(self) -> list[int]:
        """Runs with a series that is read from its rollups."""
        return [
            run
            for run, (summaries, _) in self.summaries.items()
            if any(rollups.is_long(one.first_step, one.last_step) for one in summaries.values())
        ]

    def _complete_new_runs(self) -> None:
        """The rows of new runs are inserted as they are in the end, and none of theirs is looked for."""
        columns = self.columns.get("runs")
        if columns is not None:
            states = [self.runs[run] for run in columns["run"]]
            names = zip(columns["name"], states, strict=True)  # that of run.json, unless somebody changed it
            columns["name"] = [state.name or name for name, state in names]
            for name in set(STATE_COLUMNS[1:]) - {"name"}:
                columns[name] = [getattr(state, name) for state in states]

    def _write_present(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Of the runs whose checkpoints on the disk have changed."""
        if not self.present:
            return
        there = [(run, name) for run, names in self.present.items() for name in names]
        cursor.register("looked_at", pa.table({"run": pa.array(self.present, pa.int32())}))
        runs, names = pa.array([run for run, _ in there], pa.int32()), [name for _, name in there]
        cursor.register("there", pa.table({"run": runs, "name": pa.array(names, pa.string())}))
        cursor.execute(
            f"UPDATE checkpoints SET present = (run, {_NAME}) IN (SELECT (run, name) FROM there)"
            f" WHERE run IN (SELECT run FROM looked_at) AND {_OURS}"
        )

    def _write_runs(self, cursor: duckdb.DuckDBPyConnection) -> None:
        changed = [state for run, state in self.runs.items() if run not in self.new]
        if not changed:
            return
        rows = {name: [getattr(state, name) for state in changed] for name in STATE_COLUMNS}
        new = {name: f"b.{name}" for name in STATE_COLUMNS[1:]} | {"name": "coalesce(b.name, runs.name)"}
        sets = ", ".join(f"{name} = {value}" for name, value in new.items())
        waiting = f"waiting_for = CASE WHEN b.state IN {sql_list(WAITING)} THEN runs.waiting_for END"
        _execute(
            cursor, f"UPDATE runs SET {sets}, {waiting} FROM {{batch}} b WHERE runs.run = b.run", "runs", rows
        )

    def _write_attempts(self, cursor: duckdb.DuckDBPyConnection) -> None:
        kept = {
            name: f"coalesce(attempts.{name}, b.{name})"
            if name in FIRST_WINS
            else f"coalesce(b.{name}, attempts.{name})"
            for name in _KINDS["attempts"]
        }
        rows = [{"run": run, "attempt": n, **values} for (run, n), values in self.attempts.items()]
        _upsert(cursor, "attempts", ["run", "attempt"], rows, lambda row: row["run"] in self.new, kept)

    def _write_summaries(self, cursor: duckdb.DuckDBPyConnection) -> None:
        rows = [
            {"run": run, "key": key, **{name: getattr(summaries[key], name) for name in summary.COLUMNS}}
            for run, (summaries, keys) in self.summaries.items()
            for key in sorted(keys)
        ]
        _upsert(cursor, "run_summary", ["run", "key"], rows, lambda row: row["run"] in self.new)


OF_RUN_JSON = (
    "runs",
    "params",
    "libraries",
    "datasets",
)  # tables that are made of it alone, but for a run's state

# How rows get in where it is not simply all of them in their order.
_SELECTS = {
    "metrics_live": "SELECT * FROM {batch} ORDER BY run, key, step",
    "examples": "SELECT DISTINCT ON (example) b.* FROM {batch} b ANTI JOIN examples e USING (example)"
    " ORDER BY example, suite, prompt, target",
}
# An example is of the suite that comes first by name, whichever run was read first.
_FIRST_SUITE = """
UPDATE examples SET suite = b.suite, prompt = b.prompt, target = b.target
FROM (SELECT DISTINCT ON (example) * FROM {batch} ORDER BY example, suite, prompt, target) b
WHERE b.example = examples.example
  AND (b.suite, b.prompt, b.target) < (examples.suite, examples.prompt, examples.target)"""


_NAME = "list_last(string_split(path, '/'))"  # of a checkpoint
_OURS = "NOT starts_with(path, '/')"  # in the run's directory, and not where another trainer keeps its own


def present_checkpoints(cursor: duckdb.DuckDBPyConnection) -> dict[int, frozenset[str]]:
    """By run, the names of the checkpoints that are marked as present."""
    sql = f"SELECT run, list({_NAME}) FROM checkpoints WHERE present AND {_OURS} GROUP BY run"
    return {run: frozenset(names) for run, names in cursor.execute(sql).fetchall()}


def first_unreadable(cursor: duckdb.DuckDBPyConnection) -> dict[int | None, str]:
    """By run (None: the hardware log), the first thing that could not be read. Lines that were cut off are none: they
    were never acknowledged.
    """
    chosen = f"kind = 'unreadable' AND NOT ends_with(message, '{CUT_OFF}')"
    sql = f"SELECT run, arg_min(message, t) FROM events WHERE {chosen} GROUP BY run"
    return dict(cursor.execute(sql).fetchall())


def forget_run(cursor: duckdb.DuckDBPyConnection, run: int) -> None:
    """Delete the rows of a run, and how far its logs were read."""
    for table, (_, columns) in TABLES.items():
        if any(name == "run" for name, _, _ in columns):
            cursor.execute(f"DELETE FROM {table} WHERE run = $run", {"run": run})


def _upsert(
    cursor: duckdb.DuckDBPyConnection,
    table: str,
    keys: list[str],
    rows: list[dict[str, Any]],
    is_new: Callable[[dict[str, Any]], bool] = lambda row: False,
    sets: dict[str, str] | None = None,
) -> None:
    """Update the rows that are there, by default to the new values, then insert those that were not. `is_new`: known
    not to be there.
    """
    missing = [row for row in rows if is_new(row)]
    if len(missing) < len(rows):
        missing += _update(cursor, table, keys, [row for row in rows if not is_new(row)], sets or {})
    if missing:
        _execute(cursor, f"INSERT INTO {table} SELECT * FROM {{batch}}", table, _columns(table, missing))


def _update(
    cursor: duckdb.DuckDBPyConnection,
    table: str,
    keys: list[str],
    rows: list[dict[str, Any]],
    sets: dict[str, str],
) -> list[dict[str, Any]]:
    """Update the rows that are there; return those that were not."""
    others = [name for name in _KINDS[table] if name not in keys]
    assignments = ", ".join(f"{name} = {sets.get(name, f'b.{name}')}" for name in others)
    same = " AND ".join(f"{table}.{key} = b.{key}" for key in keys)
    returned = ", ".join(f"{table}.{key}" for key in keys)
    sql = f"UPDATE {table} SET {assignments} FROM {{batch}} b WHERE {same} RETURNING {returned}"
    there = set(_execute(cursor, sql, table, _columns(table, rows)).fetchall())
    return [row for row in rows if tuple(row[key] for key in keys) not in there]


def _run_of(log: str, path: str) -> int:
    """The run of a log, by its identity; 0 of the hardware's."""
    return 0 if path.startswith("hardware") else int(log.removeprefix("run/").partition(".")[0])


def _columns(table: str, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row.get(name) for row in rows] for name in _KINDS[table]}


def _execute(
    cursor: duckdb.DuckDBPyConnection, sql: str, table: str, columns: dict[str, list[Any]]
) -> duckdb.DuckDBPyConnection:
    """Run `sql`, in which `{batch}` stands for these columns of `table`."""
    kinds = _KINDS[table]
    if len(next(iter(columns.values()))) <= _FEW:
        listed = ", ".join(f"unnest(${name}::{kinds[name]}[]) AS {name}" for name in columns)
        lists = {
            name: _spelled(column) if kinds[name] == "DOUBLE" else column for name, column in columns.items()
        }
        return cursor.execute(sql.replace("{batch}", f"(SELECT {listed})"), lists)
    rows = pa.table(columns, schema=pa.schema([(name, _ARROW[kinds[name]]) for name in columns]))
    cursor.register("batch", rows)
    return cursor.execute(sql.replace("{batch}", "batch"))


def _spelled(column: list[Any]) -> list[str | None]:
    """Floats as text, which DuckDB reads back exactly; a NaN among parameters would become NULL."""
    return [None if value is None else repr(value) for value in column]


def _supersede(cursor: duckdb.DuckDBPyConnection, run: int, attempt: int, from_step: int) -> None:
    """Take back what earlier attempts logged after the checkpoint that this attempt went on from."""
    for table in OF_STEPS:
        cursor.execute(
            f"DELETE FROM {table} WHERE {SUPERSEDED}",
            {"run": run, "attempt": attempt, "from_step": from_step},
        )
    summary.repair(cursor, run)
    if cursor.execute("SELECT 1 FROM rollups WHERE run = $run LIMIT 1", {"run": run}).fetchall():
        settling.make(cursor, [run])

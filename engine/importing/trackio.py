"""Runs of trackio: a SQLite database for each project."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from engine.curves.points import Point, number, whole
from engine.importing.database import Database, opened
from engine.importing.foreign import Candidate, Foreign, Unusable, at_steps, span, when
from finetui.names import STEPS, our_name
from store.states import RunState

TABLES = {"metrics", "configs"}
SILENT = "trackio does not say how a run ended"
_OWN = ("_Username", "_Created", "_Group")  # that trackio adds to a configuration


def find(path: Path) -> list[Candidate]:
    """Return the runs of a project, the earliest first. Raises Unusable."""
    with opened(path) as database:
        key = _key(database)
        rows = database.rows(
            f"SELECT {key} AS id, count(*) AS n, max(id) AS last, min(timestamp) AS first FROM metrics GROUP BY {key} "
            "ORDER BY first"
        )
        return [
            Candidate(
                "trackio", f"{path}#{row['id']}", f"{row['n']} {row['last']}", partial(read, path, row["id"])
            )
            for row in rows
        ]


def _key(database: Database) -> str:
    """Return the column that a run is known by: earlier versions had its name alone."""
    return "run_id" if "run_id" in database.columns("metrics") else "run_name"


def read(path: Path, run: str) -> Foreign:
    """Read a run. Raises Unusable."""
    bad = 0
    with opened(path) as database:
        key = _key(database)
        points: list[Point] = []
        name = run
        for row in database.rows(f"SELECT * FROM metrics WHERE {key} = ? ORDER BY id", run):
            name = row["run_name"]
            values = _json(row["metrics"])
            bad += values is None
            points += _points(row["step"], values or {}, when(row["timestamp"]))
        config = _config(database, run)
        samples = list(_samples(database, run))
    if not points:
        raise Unusable(
            f"{path}: run {name} has no measures" + (f"; {bad} rows of it cannot be read" if bad else "")
        )
    created, ended = span(points, when(config.get("_Created")))
    return Foreign(
        id=f"{path.stem}/{run}",
        name=str(name),
        created=created,
        ended=ended,
        state=RunState.FINISHED,
        config={key: value for key, value in config.items() if key not in _OWN},
        group=config.get("_Group") or None,
        user=config.get("_Username") or None,
        points=[*points, *at_steps(samples, points)],
        more={"project": path.stem},
        notes=[f"{path}: {bad} rows of run {name} cannot be read"] if bad else [],
        remarks=[SILENT],
    )


def _points(step: Any, values: dict[str, Any], t: float | None) -> Iterator[Point]:
    """Yield the measures of one call of `log`."""
    named = (whole(values[name]) for name in STEPS if name in values)
    at = next((at for at in named if at is not None), whole(step))
    for name, value in _flat(values):
        measure = number(value)
        if at is not None and measure is not None and name not in STEPS:
            yield Point(at, our_name(name), measure, t)


def _flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and "_type" not in value:  # else a picture, a table
            yield from _flat(value, f"{above}{name}/")
        else:
            yield above + name, value


def _config(database: Database, run: str) -> dict[str, Any]:
    columns = database.columns("configs")
    key = "run_id" if "run_id" in columns else "run_name"
    rows = database.rows(f"SELECT config FROM configs WHERE {key} = ?", run) if columns else iter(())
    return next((_json(row["config"]) or {} for row in rows), {})


def _samples(database: Database, run: str) -> Iterator[tuple[float | None, str, float]]:
    columns = database.columns("system_metrics")
    if not columns:
        return
    key = "run_id" if "run_id" in columns else "run_name"
    for row in database.rows(f"SELECT * FROM system_metrics WHERE {key} = ? ORDER BY id", run):
        for name, value in _flat(_json(row["metrics"]) or {}):
            measure = number(value)
            if measure is not None:
                yield when(row["timestamp"]), name, measure


def _json(data: bytes | str) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None

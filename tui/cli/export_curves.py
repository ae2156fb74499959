"""`finetui export-curves`: what runs have logged, for TensorBoard or as offline runs of W&B."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from engine.basics.errors import ExportError
from engine.curves.logged import Logged, LoggedRun
from finetui.client import note
from finetui.daemon import connect
from finetui.errors import StoreError
from store.states import RunState
from tui.cli.output import out_path, print_json, say, waiting

if TYPE_CHECKING:
    from finetui.client import Client

MOST = 2**31  # rows: as many as there are
RUN = "SELECT uuid, name, dir, state, recipe_json, tags, coalesce(started, created) AS started FROM runs WHERE run = {}"
KEYS = "SELECT key FROM run_summary WHERE run = {} ORDER BY key"
# A run that was resumed has logged some steps twice.
CURVE = """SELECT step, arg_max(value, attempt) AS value, arg_max(t, attempt) AS t FROM metrics
WHERE run = {} AND key = '{}' GROUP BY step"""


def export_curves(
    numbers: Sequence[int], form: ModuleType, folder: Path, *, force: bool, as_json: bool
) -> None:
    """Write each run below the folder, and print where. `form` is engine/curves/to_tensorboard.py or to_wandb.py."""
    form.check()
    folder = folder.expanduser().absolute()
    if not folder.parent.is_dir():
        raise StoreError(f"there is no directory {folder.parent}", "file")
    made = []
    with connect() as client:
        client.drain(waiting())
        for number in numbers:
            run = _logged(client, number)
            if (there := form.place_of(run, folder)) and not force:
                raise ExportError(f"{there} is there already; --force replaces it")
            try:
                place = form.write(run, folder)
            except OSError as error:
                where = error.filename or folder
                raise ExportError(f"{where} cannot be written: {error.strerror or error}") from None
            made.append({"run": number, "uuid": run.uuid, "path": str(place), "points": len(run.points)})
            if not as_json:
                say(f"#{number} {run.name}: {len(run.points):,} values")
                out_path(place)
    if as_json:
        print_json(made)


def _logged(client: Client, number: int) -> LoggedRun:
    """Raises StoreError for a run that is not there, or has logged nothing."""
    rows = client.query(RUN.format(number)).to_pylist()
    if not rows:
        raise StoreError(f"there is no run #{number}; `finetui ls` lists them", "not_found")
    points = sorted(_points(client, number))
    if not points:
        raise StoreError(f"run #{number} has logged nothing yet", "not_found")
    row: dict[str, Any] = rows[0]
    return LoggedRun(
        row["uuid"],
        row["name"],
        Path(row["dir"]).name,
        json.loads(row["recipe_json"]),
        tuple((row["tags"] or "").split()),
        row["state"] == RunState.FAILED,
        row["started"],
        tuple(points),
    )


def _points(client: Client, number: int) -> Iterator[Logged]:
    """Key by key, since an answer has its limit."""
    for key in client.query(KEYS.format(number))["key"].to_pylist():
        quoted = key.replace("'", "''")
        table = client.query(CURVE.format(number, quoted), limit=MOST)
        if missing := note(table):
            raise StoreError(f"the curve {key} of run #{number} is not whole: {missing}", "partial")
        columns = (table[name].to_pylist() for name in ("step", "value", "t"))
        yield from (Logged(step, key, value, t) for step, value, t in zip(*columns, strict=True))

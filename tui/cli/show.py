"""`finetui show`."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.basics.wording import NONE, duration, moment, size
from engine.recipe.kinds import COMMAND
from engine.runs.events import FEW_SHOT
from engine.runs.home import RunDir
from engine.runs.imported import foreign_origin
from finetui.daemon import connect
from finetui.errors import StoreError
from store.best import judged_by
from store.states import WAITING, RunState
from tui.cli.flags import flags_of, print_flags
from tui.cli.output import cell, out, print_json, print_table, say, waiting
from tui.cli.shape import Row, of_rows, of_run
from tui.lines import baselines

if TYPE_CHECKING:
    from finetui.client import Client

CONFUSION = (
    "SELECT kind, body FROM events WHERE (kind = 'plan' OR (kind = 'eval' AND body LIKE '%confusion%'))"
)


# What assistants asked of it.
ASKED = """
SELECT t, kind, TRY_CAST(body AS JSON) ->> 'by' AS by FROM events
WHERE kind IN ('submitted', 'cancel', 'pause') AND (TRY_CAST(body AS JSON) ->> 'by') IS NOT NULL AND run = {run}
ORDER BY t"""

NOTE = "SELECT TRY_CAST(body AS JSON) ->> 'text' AS note FROM events WHERE kind = 'note'"
WARNINGS = "SELECT attempt, message FROM events WHERE kind = 'log' AND level = 'warning'"


def show(number: int, *, as_json: bool) -> None:
    """One run, whole."""
    with connect() as client:
        problems = [
            what
            for what in client.drain(waiting())
            if re.search(rf"run #{number}\b|/0*{number}-[^/]* ", what)
        ]
        for problem in problems:
            say(f"problem: {problem}")
        row, parts = read(client, number)
        if as_json:
            print_json(run_as_json(client, row, parts))
            return
        _print_head(row)
        _print_damage(parts["damage"])
        print_warnings(parts["warnings"])
        _print_asked(parts["asked"])
        if row["method"] == COMMAND or row["logged"]:
            _print_curves(parts["keys"])
        _print_evals(parts["evals"], row["task"], row["kept_step"])
        looks = len({row["step"] for row in parts["evals"] if row["suite"] == "heldout"}) - 1
        _print_baselines(parts["baselines"], parts["slices"], parts["distance"], looks)
        _print_ends(parts["choices"], parts["drift"])
        if row["task"] == "classification":
            confusion = client.query(f"{CONFUSION} AND run = {int(number)} ORDER BY t").to_pylist()
            _print_confusion(confusion, row["kept_step"])
        print_flags(client, number, fixable=not row["logged"])
        _print_scaling(parts["scalings"], parts["scale_points"], parts["scaled"])
        _print_samples(parts["samples"], row["kept_step"])
        _print_memory(parts["memory"])
        _print_files(row, parts["checkpoints"])
        _section("Recipe")
        print_table(parts["params"])


def read(client: Client, number: int) -> tuple[Row, dict[str, list[Row]]]:
    """A run's row, and what else there is of it, by what it is. Raises StoreError if there is no such run."""
    row = find(client, number)
    parts = {
        name: client.named(name, run=number).to_pylist()
        for name in (
            "attempts",
            "evals",
            "baselines",
            "slices",
            "distance",
            "choices",
            "drift",
            "samples",
            "checkpoints",
            "memory",
            "scalings",
            "scale_points",
            "scaled",
            "datasets",
            "params",
            "damage",
            "keys",
        )
    }
    for checkpoint in parts["checkpoints"]:
        path = checkpoint["path"]  # somebody else may have deleted it, too
        checkpoint["present"] = bool(path) and (Path(row["dir"]) / path).exists()
    notes = client.query(f"{NOTE} AND run = {int(number)} ORDER BY t DESC LIMIT 1").to_pylist()
    row["note"] = notes[0]["note"] if notes else None
    parts["warnings"] = client.query(f"{WARNINGS} AND run = {int(number)} ORDER BY t").to_pylist()
    parts["asked"] = client.query(ASKED.format(run=int(number))).to_pylist()
    return row, parts


def run_as_json(client: Client, row: Row, parts: dict[str, list[Row]]) -> Row:
    """The same as `--json` has it, with its flags."""
    recipe = json.loads(row["recipe_json"])
    row = {name: value for name, value in row.items() if name != "recipe_json"}
    told = {name: of_rows(rows) for name, rows in parts.items()}
    return {**of_run(row), "recipe": recipe, **told, "flags_raised": of_rows(flags_of(client, row["run"]))}


def find(client: Client, number: int) -> dict[str, Any]:
    """The run's row. Raises StoreError if there is no such run."""
    rows = client.named("run", run=number).to_pylist()
    if not rows:
        raise StoreError(f"there is no run #{number}; `finetui ls` lists them", "not_found")
    return rows[0]


def _print_head(row: dict[str, Any]) -> None:
    out(f"#{row['run']} {row['name']}: {row['state']}" + (f" ({row['reason']})" if row["reason"] else ""))
    if row["waiting_for"] and row["state"] in WAITING:
        out(f"waits: {row['waiting_for']}")
    if row["state"] in WAITING and row["priority"]:
        out(f"priority {row['priority']}")
    if row["cost"] is not None:
        out(f"cost {row['cost']:.2f}")
    if row["queue_group"]:
        out(f"group {row['queue_group']}")
    if row["tags"]:
        out(f"tags {row['tags']}")
    if row["note"]:
        out(f"note {row['note']}")
    if row["total_steps"]:
        left = f", {duration(row['eta_s'])} left" if row["state"] == RunState.RUNNING else ""
        step = f"step {row['step'] or 0} of {row['total_steps']}"
        out(f"{step}, {duration(row['elapsed_s'])}{left}, attempt {row['attempt']}")
    trained = ""
    if row["parameters"] is not None:  # else its model has not been loaded
        trained = f", {cell(row['trainable'])} of {cell(row['parameters'])} parameters trained"
    if row["kept_step"] is not None:
        out(f"the weights are those of step {row['kept_step']}, and so are the results below")
    if row["logged"]:
        of = f", {cell(row['model'])}" if row["model"] else ""
        out(f"logged by a program of its own{of}{trained}")
    elif row["method"] == COMMAND:
        command = json.loads(row["recipe_json"]).get("command")
        out(f"a command: {shlex.join(map(str, command)) if isinstance(command, list) else command}")
    elif imported := foreign_origin(RunDir(Path(row["dir"]))):
        out(imported + (f", of {row['model']}" if row["model"] else ""))
    else:
        out(f"{cell(row['task'])} with {cell(row['method'])} of {cell(row['model'])}{trained}")
    if row["parent"] is not None:
        out(f"made from #{row['parent']}")
    if row["copy_of"] is not None:
        out(f"its directory is a copy of that of #{row['copy_of']}: both have one UUID in run.json")
    if row["created"] is not None:  # NULL where run.json cannot be read
        out(f"submitted {moment(row['created'])} on {cell(row['host'])}")


def print_warnings(events: list[dict[str, Any]]) -> None:
    """What the worker said about the data, and whether they changed; each warning once, with its first attempt."""
    first = {event["message"]: event["attempt"] for event in reversed(events)}
    if first:
        _section("Warnings")
        for text, attempt in reversed(first.items()):
            out(f"attempt {attempt}: {text}")


def _print_asked(rows: list[Row]) -> None:
    if rows:
        _section("Asked by assistants")
        print_table([{"at": moment(row["t"]), "what": row["kind"], "by": row["by"]} for row in rows])


def _print_damage(rows: list[dict[str, Any]]) -> None:
    """What could not be read of its files, so that nobody takes what is left for all of it."""
    if not rows:
        return
    _section(
        "Damaged: these lines and values cannot be read and are left out; the files are left as they are"
    )
    for row in rows[:20]:
        where = "" if row["attempt"] is None else f"attempt {row['attempt']}, "
        out(f"{where}{row['message']}")
    if len(rows) > 20:
        out(f"and {len(rows) - 20} more")


def _print_curves(rows: list[dict[str, Any]]) -> None:
    """What the files of a command say of its training."""
    if rows:
        _section("Curves that it wrote, in its own units")
        print_table(rows, ("key", "last", "last_step", "best", "best_step", "n"))


def _print_evals(evals: list[dict[str, Any]], task: str, kept_step: int | None = None) -> None:
    losses = [row for row in evals if row["key"] == "loss" and row["suite"] != FEW_SHOT]
    if not losses:
        return
    # Pairs, too: their `loss` is that of the chosen answers.
    unit = "text" if task == "classification" else "token"
    _section(f"Loss, nats per {unit}, with 95% interval and number of examples")
    suites = list(dict.fromkeys(row["suite"] for row in losses))
    at = {(row["step"], row["suite"]): f"{_result(row)}, {row['n']}" for row in losses}
    steps = sorted({row["step"] for row in losses})
    print_table([{"step": step, **{suite: at.get((step, suite)) for suite in suites}} for step in steps])
    results = [row for row in evals if row["key"] != "loss" and row["suite"] == "heldout"]
    if not results:
        return
    shown = sorted({row["step"] for row in results})
    last = kept_step if kept_step in shown else shown[-1] if shown else None
    shown = [*shown[:1], *(step for step in shown[1:] if step == last)]
    judged = judged_by(task)
    by = "" if judged.key == "loss" else f"; the run is judged by {judged.key}, {judged.unit}"
    _section(f"Held-out results, with 95% interval{by}")
    print_table(
        [
            {"result": key, **{f"step {row['step']}": _result(row) for row in results if row["key"] == key}}
            for key in dict.fromkeys(row["key"] for row in results if row["step"] in shown)
        ],
        ("result", *(f"step {step}" for step in shown)),
    )


def _result(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return NONE
    interval = "" if None in (row["lo"], row["hi"]) else f" ({row['lo']:.3f}–{row['hi']:.3f})"
    return f"{row['value']:.4f}{interval}"


def _print_baselines(
    of_task: list[dict[str, Any]], of_slices: list[dict[str, Any]], distance: list[dict[str, Any]], looks: int
) -> None:
    """The base model beside the run: what fine-tuning has brought, and what it has cost."""
    if of_task:
        _section(f"Held-out loss of the base model and at step {of_task[0]['step']}, paired by example")
        _print_rows(baselines.COLUMNS, map(baselines.baseline_cells, of_task))
        _print_power(of_task[0], "heldout", looks)
    if of_slices:
        _section(
            f"General text under the base model and at step {of_slices[0]['step']}: loss and tokens, paired by example"
        )
        _print_rows(baselines.SLICE_COLUMNS, map(baselines.slice_cells, of_slices))
        if trade := baselines.trade(of_slices):
            out(trade)
        for row in of_slices:
            _print_power(row, row["slice"] or "general", looks)

    if distance:
        _section(f"At step {distance[0]['step']}, {baselines.DISTANCE}")
        _print_rows(baselines.DISTANCE_COLUMNS, map(baselines.distance_cells, distance))


def _print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    print_table([dict(zip(columns, row, strict=True)) for row in rows])


def _print_power(row: dict[str, Any], suite: str, looks: int) -> None:
    """What these rows cannot show, from how much they differ in their change so far."""
    from engine.flags import power  # imports SciPy, which is slow

    if row["n"] < 2 or None in (row["lo"], row["hi"]):
        return
    least = power.smallest(suite, row["n"], looks, power.sd_of(row["lo"], row["hi"], row["n"]))
    out(f"{cell(suite)}: with {row['n']} rows, a rise below {least:.2g} nats per token is not seen by a flag")


def _print_ends(of_choices: list[dict[str, Any]], of_drift: list[dict[str, Any]]) -> None:
    """What the base model chooses and writes, beside the run at its end."""
    if of_choices:
        step = of_choices[0]["step"]
        _section(
            f"Multiple-choice questions under the base model and at step {step}, paired (McNemar's exact test)"
        )
        _print_rows(baselines.CHOICE_COLUMNS, map(baselines.choice_cells, of_choices))
    if of_drift:
        _section(
            f"What the base model writes to general prompts, and at step {of_drift[0]['step']}, paired by prompt"
        )
        _print_rows(baselines.DRIFT_COLUMNS, map(baselines.drift_cells, of_drift))


def _print_confusion(events: list[dict[str, Any]], kept_step: int | None) -> None:
    """Of the last evaluation of the held-out suite, or that of the step that was kept, if the run classifies."""
    bodies = {kind: [json.loads(e["body"]) for e in events if e["kind"] == kind] for kind in ("plan", "eval")}
    found = [body for body in bodies["eval"] if body.get("confusion") and body["suite"] == "heldout"]
    found = [body for body in found if body["step"] == kept_step] or found
    labels = (bodies["plan"][-1].get("labels") if bodies["plan"] else None) or []
    if not found or {len(labels)} != {len(found[-1]["confusion"]), *map(len, found[-1]["confusion"])}:
        return
    _section(
        f"Held-out texts at step {found[-1]['step']}: their class (rows), the class they were given (columns)"
    )
    rows = zip(labels, found[-1]["confusion"], strict=True)
    print_table([{"": label, **dict(zip(labels, counts, strict=True))} for label, counts in rows])


def _print_scaling(
    scalings: list[dict[str, Any]], points: list[dict[str, Any]], written: list[dict[str, Any]]
) -> None:
    """What it is worth at the chosen factor, where that was scored, and the folders that were written."""
    if scalings:
        _section("Scaled between the base model (factor 0) and what was trained (1): changes since factor 0")
        out(f"{scalings[-1]['message']}" + ("" if scalings[-1]["helps"] else " (not worth it)"))
        rows = [{**row, "": "→" if row["chosen"] else ""} for row in points if row["half"] == "confirm"]
        print_table(rows, ("", "factor", "suite", "slice", "loss", "change", "lo", "hi", "n"))
    for row in written:
        out(f"{row['path']}  ({row['output']} at factor {cell(row['factor'])})")


def _print_samples(samples: list[dict[str, Any]], kept_step: int | None) -> None:
    if not samples:
        return
    steps = {row["step"] for row in samples}
    last = kept_step if kept_step in steps else max(steps)
    _section(f"Answers at step {last}")
    for row in samples:
        if row["step"] == last:
            out(f"> {' '.join((row['prompt'] or '').split())}")
            out(" ".join((row["text"] or "").split()))


def _print_memory(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    _section("Peak memory, MiB: by the estimate and as measured")
    shown = [{**row, "error": "" if row["error"] is None else f"{row['error']:+.0%}"} for row in rows]
    print_table(shown)


def _print_files(row: dict[str, Any], checkpoints: list[dict[str, Any]]) -> None:
    _section("Files")
    directory = Path(row["dir"])
    for name, what in (("adapter", "adapter, for peft"), ("model", "model, for transformers")):
        if (directory / name).is_dir():
            out(f"{directory / name}  ({what})")
    for checkpoint in checkpoints:
        if checkpoint["present"]:
            out(f"{directory / checkpoint['path']}  ({size(checkpoint['bytes'])})")
    if gone := sum(not checkpoint["present"] for checkpoint in checkpoints):
        out(
            f"{gone} earlier checkpoint{'s are' if gone > 1 else ' is'} no longer there (train.keep_checkpoints)"
        )
    out(f"{directory}")


def _section(title: str) -> None:
    out()
    out(title)

"""`finetui ls`: the run table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.basics.errors import QueueError
from engine.basics.wording import duration
from finetui.daemon import connect
from store.states import WAITING, RunState
from tui.cli.output import out, print_json, print_listing, say, waiting
from tui.cli.shape import runs_as_json
from tui.lines import sweeps

if TYPE_CHECKING:
    from finetui.client import Client
    from tui.run_groups import Head

LIST_COLUMNS = (
    "run",
    "name",
    "state",
    "method",
    "progress",
    "left",
    "loss",
    "heldout",
    "general",
    "flags",
    "cost",
    "note",
)
# On a narrow terminal: columns that are cut, to how many of its columns; then those that go, the first one first.
LEAST = {"note": 16, "name": 20}
DISPENSABLE = ("left", "cost", "general", "method", "progress", "note", "loss")


def ls(state: RunState | None, limit: int, *, by: str | None, every: bool | None, as_json: bool) -> None:
    """The run table, latest last; a sweep is one line, unless `every` run is asked for, or those of one state. None:
    one line on a terminal, and a line a run for a program that reads it. `by`: in groups.
    """
    with connect() as client:
        problems = client.drain(waiting())
        table = client.named("runs")
        rows = runs_as_json(client) if as_json else table.to_pylist()
        chosen = [row for row in rows if state in (None, row["state"])]
        heads = _groups(client, table, by, [row["run"] for row in chosen[-limit:]]) if by else []
    every = not sys.stdout.isatty() if every is None else every
    lines = chosen if every or state or by else _fold(chosen)
    hidden = sum(row.get("runs", 1) for row in lines[:-limit])
    by_number = {row["run"]: row for row in rows}
    groups = [(head, [by_number[run.number] for run in head.runs]) for head in heads]
    if as_json and by:
        print_json([{"group": head.name, "runs": members} for head, members in groups])
    elif as_json:
        print_json(chosen[-limit:])
    elif by:
        for head, members in groups:
            if head is not heads[0]:
                out("")
            out(" · ".join(filter(None, [head.name, head.facts, head.left(_etas(members))])))
            _print(members if every else _fold(members))
    else:
        _print(lines[-limit:])
    if not chosen and not as_json:
        what = f"no run is {state}" if rows else "no runs yet; queue one with: finetui run recipe.yaml"
        say(what)
    elif not as_json and hidden:
        say(f"{hidden} earlier run{'s are' if hidden > 1 else ' is'} not shown; see --limit")
    for problem in problems:
        say(f"problem: {problem}")


def _print(rows: Sequence[dict[str, Any]]) -> None:
    priced = any(row["cost"] is not None for row in rows)
    columns = [name for name in LIST_COLUMNS if name != "cost" or priced]
    print_listing([_listed(row) for row in rows], columns, LEAST, DISPENSABLE)


def _groups(client: Client, table: Any, by: str, numbers: Sequence[int]) -> list[Head]:
    """The heads of the groups of these runs. Raises QueueError."""
    from tui import run_filter, run_groups
    from tui.rows import runs_of

    values: dict[int, str] = {}
    if by not in run_groups.FIELDS:
        fields = ", ".join(run_groups.FIELDS)
        if not run_filter.is_key(by):
            raise QueueError(f"--by {by}: give one of {fields}, or a key of a recipe or a metric")
        answer = client.query(run_filter.column_sql(by), limit=run_filter.MOST_VALUES).to_pylist()
        values = {row["run"]: str(row["value"]) for row in answer}
        if not values:
            raise QueueError(
                f"--by {by}: no run has it; give one of {fields}, or a key of a recipe or a metric"
            )
    wanted = frozenset(numbers)
    runs = [run for run in runs_of(table) if run.number in wanted]
    return run_groups.heads(runs, by, values)


def _etas(rows: Sequence[dict[str, Any]]) -> dict[int, float]:
    return {row["run"]: row["eta_s"] for row in rows if row["eta_s"] is not None}


def _fold(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put one line in place of the runs of each sweep, where the first of them is."""
    members = sweeps.groups(rows, lambda row: row["sweep"])
    lines = []
    for row in rows:
        of_sweep = members.get(row["sweep"])
        if of_sweep is None:
            lines.append(row)
        elif row is of_sweep[0]:
            lines.append(_line_of(of_sweep))
    return lines


def _line_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what `ls` shows of a sweep: its best results, and how its runs stand."""
    states = [row["state"] for row in rows]
    scored = [row for row in rows if row["heldout_best"] is not None]
    best = min(scored, key=lambda row: row["heldout_best"], default=None)
    flagged = [row for row in rows if row["flags"]]
    costs = [row["cost"] for row in rows if row["cost"] is not None]
    best_words = f"; best #{best['run']}" if best else ""
    return {
        **(best or rows[0]),
        "runs": len(rows),
        "run": f"{rows[0]['run']}…{rows[-1]['run']}",
        "name": sweeps.name_of([row["name"] for row in rows]),
        "state": sweeps.state_of(states),
        "progress": sweeps.ended(states) / len(rows),
        "eta_s": None,
        "heldout": best["heldout_best"] if best else None,
        "flags": len(flagged),
        "flag_level": "critical" if any(row["flag_level"] == "critical" for row in flagged) else "warn",
        "cost": sum(costs) if costs else None,
        "waiting_for": None,
        "reason": f"sweep of {sweeps.summary(states)}{best_words}; finetui sweep {rows[0]['run']}",
    }


def _listed(row: dict[str, Any]) -> dict[str, Any]:
    waits = row["waiting_for"] if row["state"] in WAITING else None
    reason = None if row["state"] == RunState.QUEUED and "runs" not in row else row["reason"]
    note = "; ".join(filter(None, (reason, waits)))
    progress = "" if row["progress"] is None else f"{row['progress']:.0%}"
    return {
        **row,
        "progress": progress,
        "left": duration(row["eta_s"]),
        "cost": None if row["cost"] is None else f"{row['cost']:.2f}",
        "note": note,
        "flags": _flag(row),
    }


def _flag(row: dict[str, Any]) -> str:
    return f"{row['flags']} {row['flag_level']}" if row["flags"] else ""

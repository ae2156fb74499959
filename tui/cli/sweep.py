"""`finetui sweep`: the runs of a sweep by what they gained, what tells them apart, and what each setting was worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.client.submit import of_recipe
from engine.client.sweeps import more_runs, queue_runs
from engine.recipe.sweep import Range, limit_reached, short_names
from engine.runs.sweep_plan import QUEUING, Plan, read_plan
from engine.search.worth import FEWEST, Worth, number_of, worth
from finetui.daemon import connect
from finetui.errors import StoreError
from finetui.home import home
from store.states import RunState
from tui.cli.output import out, print_json, print_table, say, waiting
from tui.cli.queue import check_all, print_queued
from tui.cli.shape import runs_as_json
from tui.cli.show import find

if TYPE_CHECKING:
    from finetui.client import Client

NEAREST = 10  # runs that the best one is compared with, example by example
LEAST_FINISHED = 4  # finished runs from which it is said where the best one is
EDGE = 0.05  # of a range
OF_RESULTS = ("heldout_best", "general", "flags", "cost")


def add(number: int, count: int, *, as_json: bool) -> None:
    """Give the sweep that a run belongs to more runs: drawn like the others, or proposed as results come."""
    with connect() as client:
        sweep_id = _sweep_of(client, number)
        plan = _needed_plan(sweep_id, number)
        sweep = plan.sweep
        if sweep.search == "grid":
            raise StoreError(
                f"the sweep of run #{number} is a grid, and has every combination; finetui clone {number} key=value"
                " makes another run",
                "refused",
            )
        rows = [row for row in client.named("runs").to_pylist() if row["sweep"] == sweep_id]
        if limit := limit_reached(sweep, *_spent(rows)):
            raise StoreError(f"nothing more of this sweep would start: {limit}", "refused")
        if sweep.is_watched:
            total = client.action("sweep_add", sweep=sweep_id, runs=count, before=plan.runs)["runs"]
            say(f"the sweep will have {total} runs; the next are queued as results come")
            if as_json:
                print_json({"runs": [], "queued": []})
            return
        file = more_runs(plan, count)
        reports = check_all(file, Path(plan.folder), Path(plan.common.get("cwd") or "."))
        client.action("sweep_add", sweep=sweep_id, runs=count, before=plan.runs)
        made = queue_runs(client, plan, file, [of_recipe(report) for report in reports])
        for run, report in zip(made, reports, strict=True):
            say(f"queued #{run} {report.recipe.name}: {report.summary()}")
        print_queued(client, made, as_json=as_json)


def stop(number: int, *, as_json: bool) -> None:
    """Propose no more runs for the sweep that a run belongs to, and stop no more; its runs go on."""
    with connect() as client:
        sweep_id = _sweep_of(client, number)
        plan = _needed_plan(sweep_id, number)
        if plan.done is not None:
            raise StoreError(f"there is nothing to stop: {plan.done}", "refused")
        client.action("sweep_end", sweep=sweep_id, why="somebody stopped it", before=plan.runs)
        say(f"the sweep ends with the runs that it has; finetui cancel sweep:{number} stops those")
        if as_json:
            print_json({"sweep": sweep_id, "plan": _planned(_plan_of(sweep_id))})


def _needed_plan(sweep_id: str, number: int) -> Plan:
    """Return the plan of a sweep. Raises StoreError where there is none, or none that can be read."""
    try:
        plan = read_plan(home(), sweep_id)
    except (OSError, ValueError) as error:
        raise StoreError(f"the plan of this sweep cannot be read ({error})") from None
    if plan is None:
        raise StoreError(
            f"the sweep of run #{number} has no plan in this home: it is of another home, or of an older finetui",
            "refused",
        )
    return plan


def _spent(rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Return the hours that runs have taken, and what they have cost."""
    return sum(row["elapsed_s"] or 0 for row in rows) / 3600, sum(row["cost"] or 0 for row in rows)


def _sweep_of(client: Client, number: int) -> str:
    client.drain(waiting())
    sweep_id = find(client, number)["sweep"]
    if sweep_id is None:
        raise StoreError(f"run #{number} belongs to no sweep; finetui compare takes any runs", "refused")
    return str(sweep_id)


def sweep(number: int, *, as_json: bool) -> None:
    """All runs of the sweep that a run belongs to, the best first."""
    with connect() as client:
        sweep_id = _sweep_of(client, number)
        table = runs_as_json(client) if as_json else client.named("runs").to_pylist()
        rows = [row for row in table if row["sweep"] == sweep_id]
        runs = [row["run"] for row in rows]
        differing = client.named("params_diff", runs=runs).to_pylist() if len(runs) > 1 else []
        settings: dict[int, dict[str, Any]] = {run: {} for run in runs}
        for one in differing:
            settings[one["run"]][one["key"]] = one["value"]
        rows.sort(key=lambda row: (row["heldout_best"] is None, row["heldout_best"], row["run"]))
        best = _best_run(client, rows)
    plan = _plan_of(sweep_id)
    told = worth([(settings[row["run"]], row["heldout_best"]) for row in rows if _counts(row)])
    if as_json:
        shown = [{**row, "settings": settings[row["run"]]} for row in rows]
        body = {"sweep": sweep_id, "runs": shown, "best": best, "worth": [asdict(one) for one in told]}
        print_json({**body, "plan": _planned(plan)})
        return
    keys = list(dict.fromkeys(one["key"] for one in differing))
    short = dict(zip(keys, short_names(keys), strict=True))
    print_table(
        [
            {
                "run": row["run"],
                "state": row["state"],
                **{short[key]: settings[row["run"]].get(key) for key in keys},
                **{name: row[name] for name in OF_RESULTS},
            }
            for row in rows
        ]
    )
    done = sum(_is_done(row) for row in rows)
    count = f"{len(rows)} of {plan.runs} runs" if plan and plan.runs > len(rows) else f"{len(rows)} runs"
    out(f"{count}, {done} finished" + (f"; {best['sentence']}" if best else ""))
    if plan and (words := _going_on(plan, rows)):
        out(words)
    if best and plan and done >= LEAST_FINISHED and (edges := at_the_edge(plan, settings[best["run"]])):
        out(f"the best run is at the edge of what was tried in {', '.join(edges)}: try beyond it")
    if told:
        out()
        out(f"What each setting was worth, in the order of {told[0].n} runs by held-out loss:")
        print_table([_told(one) for one in told])
    elif keys:
        out(f"what each setting was worth can be said from {FEWEST} ended runs on")


def _told(one: Worth) -> dict[str, Any]:
    return {
        "setting": one.key,
        "explains": f"{one.explains:.0%}",
        "p": f"{one.p:.4f}",
        "best": one.best if one.is_told else "cannot be told",
        "median loss there": one.median if one.is_told else None,
        "elsewhere": one.elsewhere if one.is_told else None,
    }


def _planned(plan: Plan | None) -> dict[str, Any] | None:
    """What the JSON has of a plan."""
    return None if plan is None else {"runs": plan.runs, "search": plan.sweep.search, "done": plan.done}


def _plan_of(sweep_id: str) -> Plan | None:
    try:
        return read_plan(home(), sweep_id)
    except (OSError, ValueError):
        return None


def _going_on(plan: Plan, rows: Sequence[dict[str, Any]]) -> str:
    """Return in words what the sweep does by itself, and how far its limits are; nothing for one that does nothing."""
    sweep, (hours, cost) = plan.sweep, _spent(rows)
    words = [f"search: {sweep.search}"] if sweep.search == "tpe" else []
    if sweep.stop_losers:
        words.append("runs that cannot win are stopped")
    if sweep.max_hours is not None:
        words.append(f"{hours:.4g} of {sweep.max_hours:g} hours")
    if sweep.max_cost is not None:
        words.append(f"cost {cost:.2f} of {sweep.max_cost:g}")
    done = plan.done
    if done == QUEUING:  # for a moment; or the command was killed
        done = f"not all of its first runs are queued: finetui sweep {rows[0]['run']} --add 1 lets it go on"
    return "; ".join([*words, done or "it goes on"]) if words else ""


def at_the_edge(plan: Plan, settings: Mapping[str, Any]) -> list[str]:
    """Return the settings of a run that are close to an end of what the sweep tries: within a twentieth of a range, or
    the first or last of a list of numbers, with the value.
    """
    found = []
    for key, tried in plan.sweep.values.items():
        value = number_of(settings.get(key))
        if value is None:
            continue
        if isinstance(tried, Range):
            place = tried.place(value)
            at_end = not EDGE <= place <= 1 - EDGE
        else:
            numbers = [number for one in tried if (number := number_of(one)) is not None]
            at_end = len(numbers) > 2 and value in (min(numbers), max(numbers))
        if at_end:
            found.append(f"{key} ({settings[key]})")
    return found


def _is_done(row: dict[str, Any]) -> bool:
    return row["state"] == RunState.FINISHED and row["heldout_best"] is not None


def _counts(row: dict[str, Any]) -> bool:
    """Whether a run has a result that tells of its settings: it has finished, or was stopped since it could not win."""
    return row["state"] in (RunState.FINISHED, RunState.CANCELLED) and row["heldout_best"] is not None


def _best_run(client: Client, rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the best finished run, and those next to it that the same examples cannot tell from it."""
    done = [row for row in rows if _is_done(row)]
    if not done:
        return None
    best, others = done[0]["run"], [row["run"] for row in done[1 : NEAREST + 1]]
    alike = []
    for other in others:
        (pair,) = client.named("paired", a=best, b=other).to_pylist() or [{"n": 0}]
        if pair["n"] and pair["lo"] is not None and pair["lo"] > 0:
            continue
        alike.append(other)
    sentence = f"#{best} is the best"
    if alike:
        names = ", ".join(f"#{run}" for run in alike)
        sentence += f", and the same examples cannot tell it from {names} (paired at their last looks)"
    elif others:
        sentence += ", and ahead of all others on the same examples"
    return {"run": best, "alike": alike, "sentence": sentence}

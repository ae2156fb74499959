"""`… -m finetui.start engine.search.searcher`: carries on the sweeps of a home that go on by themselves.

A client of the daemon, which starts it while there is such a sweep: it proposes runs from the results so far, stops
those that can no longer win, and keeps limits of hours and cost. It keeps no state: what there is to do follows from
the plans and the runs. So it may be killed at any moment, and the daemon starts another one.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.basics.errors import QueueError, RecipeError
from engine.basics.process import die_with_parent
from engine.client.preflight import absolute
from engine.recipe import recipe_file
from engine.recipe.sections import Recipe
from engine.recipe.sweep import limit_reached
from engine.runs.home import RunDir
from engine.runs.submitted import submitted_value
from engine.runs.sweep_plan import Plan, open_plans
from engine.search.losers import Behind, Example, Progress, behind
from engine.search.propose import Outcome, Trial, propose
from finetui.client import Client
from finetui.daemon import answering
from finetui.errors import StoreError, Unavailable
from finetui.home import Home, home
from store.journal_lines import JOURNAL, Cancel, Other
from store.line_fields import read_lines
from store.states import ACTIVE, ENDED, WAITING, RunState

log = logging.getLogger("finetui.search")

LOOK_S = 1.0
COMES_FROM_DATA = "data"  # a section of a recipe: runs that differ in it have other data sets


@dataclass(frozen=True)
class SweptRun:
    """A run of a sweep as the store has it."""

    run: int
    dir: RunDir
    state: str
    attempt: int
    step: int | None
    total_steps: int | None
    result: float | None  # best held-out loss
    hours: float
    cost: float

    @property
    def outcome(self) -> Outcome:
        if self.state == RunState.FINISHED:
            return "finished"
        if self.state == RunState.CANCELLED:
            return "stopped"
        return "failed" if self.state == RunState.FAILED else "open"


@dataclass
class Searcher:
    """What is remembered from look to look; all of it can be found anew."""

    client: Client
    home: Home
    judged: dict[int, int] = field(default_factory=dict)  # run → the last look at which it was compared
    problems: list[str] = field(default_factory=list)  # told to the daemon

    def carry_on(self) -> bool:
        """Do what there is to do now for every sweep; False if there is none left. What goes wrong with one costs no
        other anything.
        """
        self.client.drain()
        plans, _ = open_plans(self.home)
        runs, problems = swept_runs(self.client), []
        for plan in plans:
            try:
                _carry_on(self.client, plan, runs.get(plan.uuid, []), self.judged)
            except Unavailable:
                raise
            except (QueueError, RecipeError) as error:
                _end(self.client, plan, f"it has stopped: {error}")
            except Exception as error:
                problems.append(f"the sweep of {plan.path} stands still: {error}")
                if problems[-1] not in self.problems:
                    log.exception("sweep %s", plan.uuid)
        if problems != self.problems:
            self.client.action("sweep_problems", problems=problems)
            self.problems = problems
        return bool(plans)


def _carry_on(client: Client, plan: Plan, runs: Sequence[SweptRun], judged: dict[int, int]) -> None:
    sweep = plan.sweep
    waiting = [run for run in runs if run.state in WAITING]
    active = [run for run in runs if run.state in ACTIVE]
    if limit := limit_reached(sweep, sum(run.hours for run in runs), sum(run.cost for run in runs)):
        for run in waiting:
            _cancel(client, run.run, f"not started: {limit}")
        if not active:
            _end(client, plan, limit)
        return
    if sweep.stop_losers:
        _stop_losers(client, runs, judged)
    if plan.to_come:
        if len(waiting) + len(active) < _at_once(client):
            _queue_next(client, plan, runs)
    elif not waiting and not active and all(run.state in ENDED for run in runs):
        _end(client, plan, "all its runs have ended")


def swept_runs(client: Client) -> dict[str, list[SweptRun]]:
    """Return the runs of all sweeps by number, those that were removed left out."""
    places = client.query("SELECT run, dir FROM runs WHERE sweep IS NOT NULL").to_pylist()
    dirs = {row["run"]: RunDir(Path(row["dir"])) for row in places}
    by_sweep: dict[str, list[SweptRun]] = {}
    for row in client.named("runs").to_pylist():
        if row["run"] not in dirs:
            continue
        run = SweptRun(
            row["run"],
            dirs[row["run"]],
            row["state"],
            row["attempt"] or 0,
            row["step"],
            row["total_steps"],
            row["heldout_best"],
            (row["elapsed_s"] or 0.0) / 3600,
            row["cost"] or 0.0,
        )
        by_sweep.setdefault(row["sweep"], []).append(run)
    return by_sweep


def _at_once(client: Client) -> int:
    """Return how many runs of a sweep may be open before the next is proposed: more results make better proposals."""
    return max(1, int(client.action("status")["concurrency"]))


# ---- the next run --------------------------------------------------------------------------------


def _queue_next(client: Client, plan: Plan, runs: Sequence[SweptRun]) -> None:
    trials = [
        Trial(values, run.outcome, _losses(client, run), run.result)
        for run in runs
        if (values := submitted_value(run.dir, "sweep_values", dict))
    ]
    values = propose(plan.sweep, plan.runs, trials, plan.given)
    if values is None:
        _end(client, plan, "every combination of its values was tried")
        return
    recipe = recipe_file.with_values(copy.deepcopy(plan.recipe), values, Path(plan.path))
    recipe = _with_paths(recipe, plan)
    common = dict(plan.common)
    if any(key.split(".")[0] == COMES_FROM_DATA for key in values):
        common["datasets"] = []
    body = {
        "recipe": recipe.model_dump(mode="json"),
        "name": recipe.name,
        "sweep": plan.uuid,
        "sweep_values": values,
    }
    number = client.action("submit", **common, **body)["run"]
    drawn = len(plan.given) < plan.sweep.initial_runs(plan.runs)
    log.info("run #%d %s: %s", number, "drawn" if drawn else "proposed", json.dumps(values))


def _with_paths(recipe: Recipe, plan: Plan) -> Recipe:
    """Return the recipe with absolute paths, as they are read where the sweep was queued."""
    try:
        with contextlib.chdir(plan.common.get("cwd") or "/"):
            return absolute(recipe, Path(plan.folder))
    except OSError as error:
        raise QueueError(f"{error.filename}, where the sweep was queued, cannot be entered") from None


def _losses(client: Client, run: SweptRun) -> dict[int, float]:
    """Return the held-out losses of a run that was stopped, by step; of others the result says it all."""
    if run.outcome != "stopped":
        return {}
    rows = client.query(
        f"SELECT step, value FROM evals WHERE run = {run.run} AND suite = 'heldout' AND key = 'loss'"
    ).to_pylist()
    return {int(row["step"]): row["value"] for row in rows if row["value"] is not None}


# ---- runs that cannot win ------------------------------------------------------------------------


def _stop_losers(client: Client, runs: Sequence[SweptRun], judged: dict[int, int]) -> None:
    """Cancel the runs that can no longer become the best, each judged once a look."""
    done = [run for run in runs if run.state == RunState.FINISHED and run.result is not None]
    running = [run for run in runs if run.state == RunState.RUNNING and not _was_stopped(run)]
    if not done or not running:
        return
    best = min(done, key=lambda run: run.result if run.result is not None else 0.0)
    theirs = None
    for run in running:
        last = client.query(
            f"SELECT max(step) AS step FROM eval_examples WHERE run = {run.run} AND suite = 'heldout'"
        ).to_pylist()[0]["step"]
        if not last or judged.get(run.run) == last:
            continue
        judged[run.run] = last
        theirs = theirs or progress(client, best)
        if gap := behind(progress(client, run), theirs):
            _cancel(client, run.run, stop_reason(gap, best.run))


def _was_stopped(run: SweptRun) -> bool:
    """Whether the run was stopped once already, and somebody wants it to go on all the same."""
    if run.attempt < 2:
        return False
    lines = read_lines(run.dir.journal, JOURNAL, Other)
    return any(isinstance(line, Cancel) and line.cause is not None for _, line in lines)


def stop_reason(gap: Behind, best: int) -> str:
    """Return in a sentence why a run is stopped that cannot win."""
    return (
        f"stopped at step {gap.step}: it can no longer become better than #{best}; held-out loss "
        f"{gap.difference:+.3g}, and at least {gap.least:+.3g} at the end, on the same {gap.n} examples"
    )


def progress(client: Client, run: SweptRun) -> Progress:
    """Return the looks of a run at its held-out examples."""
    rows = client.query(
        "SELECT step, example, coalesce(document, example) AS draw,"
        " coalesce(greatest(-margin, 0) + ln(1 + exp(-abs(margin))), nll) AS loss,"
        " CASE WHEN margin IS NULL THEN tokens ELSE 1 END AS tokens"
        f" FROM eval_examples WHERE run = {run.run} AND suite = 'heldout' AND tokens > 0"
    ).to_pylist()
    looks: dict[int, dict[str, Example]] = {}
    for row in rows:
        if row["loss"] is not None:
            looks.setdefault(row["step"], {})[row["example"]] = Example(
                row["loss"], row["tokens"], row["draw"]
            )
    return Progress(run.total_steps or 0, looks)


# ---- what the daemon is asked --------------------------------------------------------------------


def _cancel(client: Client, run: int, why: str) -> None:
    """Cancel a run. One that has ended or stops by now is left as it is."""
    try:
        client.action("cancel", run=run, cause=why)
    except StoreError as error:
        log.info("run #%d was not stopped: %s", run, error)
    else:
        log.info("run #%d %s", run, why)


def _end(client: Client, plan: Plan, why: str) -> None:
    client.action("sweep_end", sweep=plan.uuid, why=why, before=plan.runs)
    log.info("sweep %s ends: %s", plan.uuid, why)


def main() -> int:
    """Carry on until there is nothing left to do, or the daemon has gone."""
    die_with_parent()
    format = "%(asctime)s %(name)s %(message)s"
    logging.basicConfig(format=format, datefmt="%Y-%m-%d %H:%M:%S %Z", level=logging.INFO)
    client = answering(home())
    if client is None:
        return 0
    with client:
        searcher = Searcher(client, home())
        try:
            while searcher.carry_on():
                if os.getppid() == 1:
                    return 0
                time.sleep(LOOK_S)
        except Unavailable:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`finetui run`, `check`, and what changes a run's place or state."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from engine.basics import machine
from engine.basics.errors import DataError, QueueError, RecipeError
from engine.client import clone as engine_clone
from engine.client import preflight, submit
from engine.client.commands import CommandReport, check_command
from engine.client.sweeps import check_search
from engine.recipe import recipe_file
from engine.recipe.recipe_file import RecipeFile
from engine.runs import journal
from engine.runs.home import run_dirs
from engine.runs.lifecycle import Action, refusal, refused
from finetui.daemon import connect
from finetui.errors import ExitCode
from finetui.home import home
from tui.cli.answers import Answer, ask_for_each, finish
from tui.cli.asking import confirm, runs_in_words
from tui.cli.follow import follow_runs, print_run, say_run, wait_for_runs
from tui.cli.logs import find
from tui.cli.output import out, print_json, say, waiting
from tui.cli.selection import Selection, parse_numbers, select
from tui.cli.shape import runs_as_json
from tui.cli.show import find as show_find
from tui.cli.times import parse_time
from tui.reports import Reporting
from tui.rows import Run

if TYPE_CHECKING:
    from finetui.client import Client


def conditions(*, hold: bool, after: list[str], after_any: bool, at: str | None) -> dict[str, Any]:
    """What a run waits for besides its turn, as a submission has it. Raises QueueError."""
    try:
        not_before = parse_time(at, datetime.now()) if at else None
    except ValueError as error:
        raise QueueError(f"--at {error}") from None
    return {"held": hold, "after": parse_numbers(after), "after_any": after_any, "not_before": not_before}


def run(path: Path, overrides: list[str], more: dict[str, Any], *, follow: bool, as_json: bool) -> None:
    """Check first, all runs of a sweep, and only then queue: a bad recipe queues nothing. `more`: of the submission."""
    file = recipe_file.read(path, overrides)
    parent = more["parent"] and next((one for one in run_dirs(home()) if one.number == more["parent"]), None)
    if parent and len(file.recipes) == 1:
        from engine.client.fix import followed

        more = {**more, "fixes": followed(parent, file.recipes[0])}
    _queue(file, path.parent, more, follow=follow, as_json=as_json)


def command_of(
    words: list[str], name: str | None, gpus: int | None, watch: list[Path] | None, on_resume: str | None
) -> RecipeFile:
    """Return what `finetui run -- …` asks for as a recipe. Raises RecipeError."""
    try:
        resumed = shlex.split(on_resume or "")
    except ValueError as error:
        raise RecipeError(f"--on-resume {on_resume!r}: {error}; write it as in a shell") from None
    keys = {
        "command": words,
        "name": name,
        "processes": gpus,
        "watch": list(map(str, watch or ())),
        "on_resume": resumed,
    }
    tree = {key: value for key, value in keys.items() if value or key == "command"}
    return recipe_file.parse(json.dumps(tree, ensure_ascii=False), Path("command line"))


def run_command(file: RecipeFile, more: dict[str, Any], *, follow: bool, as_json: bool) -> None:
    """Queue a program of the user's own, to be started from this folder in the environment of this shell."""
    _queue(file, Path.cwd(), more, follow=follow, as_json=as_json)


def _queue(file: RecipeFile, folder: Path, more: dict[str, Any], *, follow: bool, as_json: bool) -> None:
    checked = check_all(file, folder)
    with connect() as client:
        numbers = submit.submit(client, file, checked, **more)
        for number, report in zip(numbers, checked, strict=True):
            say(f"queued #{number} {report.recipe.name}: {report.summary()}")
        print_queued(client, numbers, as_json=as_json)
        if more_to_come := file.more_to_come:
            say(f"{more_to_come} more are queued as results come: finetui sweep {numbers[0]}")
        if follow:
            sys.exit(ExitCode.OK if follow_runs(client, numbers) else ExitCode.FAILED)
    if numbers[0] == 1 and (
        warning := machine.home_warning(home().path, os.environ, machine.mounts())
    ):  # the first of this home
        say(f"note: {warning}")
    say(f"watch: finetui   or: finetui logs -f {numbers[0]}")


def print_queued(client: Client, numbers: list[int], *, as_json: bool) -> None:
    """The numbers of new runs, a line each, or the runs as JSON."""
    if as_json:
        client.drain(waiting())
        print_json({"runs": numbers, "queued": runs_as_json(client, numbers)})
        return
    for number in numbers:
        out(str(number))


def clone(number: int, overrides: list[str], *, as_json: bool) -> None:
    """Queue a run's recipe with changes; checked as one from a file is, and its paths start where that began."""
    file, folder = engine_clone.recipe_of(find(number), overrides)
    reports = check_all(file, folder, folder)
    with connect() as client:
        numbers = submit.submit(
            client, file, reports, parent=number, cwd=folder, **engine_clone.kept_of(find(number))
        )
        for made, report in zip(numbers, reports, strict=True):
            say(f"queued #{made} {report.recipe.name}, made from run #{number}: {report.summary()}")
        print_queued(client, numbers, as_json=as_json)


def edit(number: int, overrides: list[str], *, as_json: bool) -> None:
    """Change the recipe of a run that has not begun; checked as a new one is."""
    run = find(number)
    if why := refusal("edit", journal.read(run)):  # before seconds are spent on the check
        raise QueueError(why)
    file, folder = engine_clone.recipe_of(run, overrides)
    if file.command is None and len(file.recipes) > 1:
        raise QueueError(f"run #{number} cannot become a sweep; finetui clone {number} … queues one")
    (report,) = check_all(file, folder, folder)
    with connect() as client:
        changes = submit.edit(client, number, file, report)
    changed = f"has another recipe: {'; '.join(changes)}" if changes else "has its recipe as before"
    say(f"#{number} {changed}")
    say(report.summary())
    finish([Answer(number, changed, more={"changes": changes})], as_json=as_json)


def check_all(
    file: RecipeFile, folder: Path, cwd: Path | None = None
) -> Sequence[preflight.Report | CommandReport]:
    """Check all recipes of a file, and say once what is worth a note. Raises InputError."""
    reports = reports_of(file, folder, cwd or Path.cwd())
    for warning in dict.fromkeys(warning for report in reports for warning in report.warnings):
        say(f"note: {warning}")
    return reports


def reports_of(file: RecipeFile, folder: Path, cwd: Path) -> Sequence[preflight.Report | CommandReport]:
    """`folder`: where paths of a recipe start; `cwd`: where a command does."""
    if file.command:
        return [check_command(file.command, cwd)]
    reports = [preflight.check(one, folder) for one in file.recipes]
    check_search(file, min(report.heldout_examples for report in reports))
    if file.sweep and file.sweep.max_cost and _price_per_hour() is None:
        raise RecipeError(
            f"{file.path}, key sweep.max_cost: what an hour costs is not known; set price_per_hour in config.toml"
        )
    return reports


def _price_per_hour() -> float | None:
    from engine.queue import config

    return config.read(home().config).price_per_hour


def costs_of(reports: Sequence[preflight.Report | CommandReport]) -> list[float | None]:
    """What each run will cost, as far as its time is foretold and an hour has a price: of each GPU that it takes."""
    from engine.queue import sampler

    price = _price_per_hour()
    looks = [one.looks if isinstance(one, preflight.Report) else None for one in reports]
    seconds = [cost.seconds if cost else None for cost in looks]
    if price is None or not any(seconds):
        return [None] * len(reports)
    on_gpus = bool(sampler.Nvml().values())
    return [
        None if took is None else price * took / 3600 * (one.recipe.processes if on_gpus else 1)
        for one, took in zip(reports, seconds, strict=True)
    ]


def check(path: Path, overrides: list[str], *, as_json: bool) -> None:
    """Print what would run. More thorough than `run`, which leaves it to the worker to look at the tokens."""
    file = recipe_file.read(path, overrides)
    checked = reports_of(file, path.parent, Path.cwd())
    notes = token_notes(file, checked[0], str(path), overrides)
    costs = costs_of(checked)
    if as_json:
        print_json(check_as_json(path, checked, costs, notes))
        return
    for report, cost in zip(checked, costs, strict=True):
        for text in report.lines():
            out(text)
        if cost:
            out(f"  cost     about {cost:.2f}")
    for note in notes:
        out(f"  note     {note}")
    command = shlex.join(["finetui", "run", str(path), *overrides])
    count = f"{len(checked)} run{'s' if len(checked) > 1 else ''}"
    if file.more_to_come:
        count += f", and {file.more_to_come} more whose values follow from results"
    out(f"{path}: good, {count}; queue with: {command}")


def token_notes(
    file: RecipeFile, first: preflight.Report | CommandReport, path: str, overrides: list[str]
) -> list[str]:
    """What is worth a note about the tokens to learn, for which each row is looked at; `path`: `-` for a recipe that is
    in no file. Raises DataError.
    """
    if not isinstance(first, preflight.Report) or not first.model.local:
        return []  # there is no tokenizer yet
    tokens = Reporting("--brief", path, *overrides, stdin=file.text).result()
    if tokens["refusals"]:
        raise DataError(tokens["refusals"][0])
    return list(tokens["warnings"])


def check_as_json(
    path: Path,
    reports: Sequence[preflight.Report | CommandReport],
    costs: Sequence[float | None],
    notes: Sequence[str],
) -> dict[str, Any]:
    runs = [{**report.as_dict(), "cost": cost} for report, cost in zip(reports, costs, strict=True)]
    return {"recipe": str(path), "runs": runs, "token_warnings": notes}


def act(action: str, words: list[str], *, yes: bool, as_json: bool, **body: Any) -> None:
    """Do one thing to several runs; goes on after one that is refused, and exits non-zero then."""
    with connect() as client:
        chosen = select(client, words)
        numbers = _approved(action, chosen, yes, as_json) if chosen.found else chosen.numbers
        answers = ask_for_each(client, action, numbers, **body)
    finish(answers, as_json=as_json)


def _approved(action: str, chosen: Selection, yes: bool, as_json: bool) -> list[int]:
    """The runs of a filter to which the action can be done, once somebody has seen and approved them."""
    able = [run for run in chosen.found if _can(action, run)]
    if left := len(chosen.found) - len(able):
        say(f"{left} of {len(chosen.found)} left alone: their state does not allow it")
    if not able:
        raise QueueError("no run that matches is in a state that allows it")
    for run in able:
        say(f"  #{run.number} {run.name}: {run.state}")
    confirm(f"{action.replace('_', ' ')} {runs_in_words(len(able))}?", yes=yes, as_json=as_json)
    return [run.number for run in able]


def _can(action: str, run: Run) -> bool:
    """By the rules that the daemon goes by; what has none, such as requeue, can be done to any run."""
    if action not in get_args(Action):
        return True
    return refused(cast("Action", action), run.number, run.state, logged=run.logged) is None


def wait(words: list[str], timeout: float | None, *, as_json: bool) -> None:
    """Until the runs have ended or are paused; exit code 1 unless all of them finished. JSON: a line for each, as it
    ends.
    """
    with connect() as client:
        client.drain(waiting())  # a run that was queued a moment ago is there, too
        numbers = select(client, words).numbers
        for number in numbers:
            show_find(client, number)
        tell = partial(print_run, client) if as_json else say_run
        sys.exit(ExitCode.OK if wait_for_runs(client, numbers, timeout, tell) else ExitCode.FAILED)

"""`finetui run`, `check`, and what changes a run's place or state."""

from __future__ import annotations

import shlex
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import typer

from engine.basics.errors import DataError, QueueError
from engine.client import clone as engine_clone
from engine.client import preflight, submit
from engine.recipe import recipe_file
from engine.runs.lifecycle import Action, refused
from finetui.daemon import connect
from finetui.errors import ExitCode, StoreError, Unavailable
from store.states import ACTIVE, WAITING, RunState
from tui.cli.follow import POLL_S, follow_runs, line
from tui.cli.logs import find
from tui.cli.output import complain, out, print_json, say
from tui.cli.show import find as show_find
from tui.cli.when import when
from tui.cli.which import Which, named, which
from tui.orders import done
from tui.reports import Reporting

if TYPE_CHECKING:
    from finetui.client import Client


def conditions(*, hold: bool, after: list[str], after_any: bool, at: str | None) -> dict[str, Any]:
    """What a run waits for besides its turn, as a submission has it. Raises QueueError."""
    try:
        not_before = when(at, datetime.now()) if at else None
    except ValueError as error:
        raise QueueError(f"--at {error}") from None
    return {"held": hold, "after": named(after), "after_any": after_any, "not_before": not_before}


def run(path: Path, overrides: list[str], more: dict[str, Any], *, follow: bool, as_json: bool) -> None:
    """Check first, all runs of a sweep, and only then queue: a bad recipe queues nothing. `more`: of the submission."""
    file = recipe_file.read(path, overrides)
    checked = [preflight.check(one, path.parent) for one in file.recipes]
    for warning in dict.fromkeys(warning for report in checked for warning in report.warnings):
        say(f"note: {warning}")
    with connect() as client:
        numbers = submit.submit(client, file, checked, **more)
        for number, report in zip(numbers, checked, strict=True):
            say(f"queued #{number} {report.recipe.name}: {report.summary()}")
        if as_json:
            print_json({"runs": numbers})
        else:
            for number in numbers:
                out(str(number))
        if follow:
            sys.exit(ExitCode.OK if follow_runs(client, numbers) else ExitCode.FAILED)
    say(f"watch: finetui   or: finetui logs -f {numbers[0]}")


def clone(number: int, overrides: list[str]) -> None:
    """Queue a run's recipe with changes; checked as one from a file is, and its paths start where that began."""
    file, folder = engine_clone.recipe_of(find(number), overrides)
    reports = [preflight.check(one, folder) for one in file.recipes]
    with connect() as client:
        numbers = submit.submit(client, file, reports, parent=number, cwd=folder)
        for made, report in zip(numbers, reports, strict=True):
            say(f"queued #{made} {report.recipe.name}, made from run #{number}: {report.summary()}")
            out(str(made))


def check(path: Path, overrides: list[str], *, as_json: bool) -> None:
    """Print what would run. More thorough than `run`, which leaves it to the worker to look at the tokens."""
    file = recipe_file.read(path, overrides)
    checked = [preflight.check(one, path.parent) for one in file.recipes]
    notes = []
    if checked[0].model.local:  # else there is no tokenizer yet
        tokens = Reporting("--brief", str(path), *overrides).result()
        if tokens["refusals"]:
            raise DataError(tokens["refusals"][0])
        notes = tokens["warnings"]
    if as_json:
        runs = [report.as_dict() for report in checked]
        print_json({"recipe": str(path), "runs": runs, "token_warnings": notes})
        return
    for report in checked:
        for text in report.lines():
            out(text)
    for note in notes:
        out(f"  note     {note}")
    command = shlex.join(["finetui", "run", str(path), *overrides])
    out(f"{path}: good, {len(checked)} run{'s' if len(checked) > 1 else ''}; queue with: {command}")


def act(action: str, words: list[str], *, yes: bool, **body: Any) -> None:
    """Do one thing to several runs; goes on after one that is refused, and exits non-zero then."""
    with connect() as client:
        chosen = which(client, words)
        numbers = _allowed(action, chosen, yes) if chosen.found else chosen.numbers
        refused = [number for number in numbers if not _done(client, action, number, body)]
    if refused:
        sys.exit(ExitCode.REFUSED)


def _done(client: Client, action: str, number: int, body: dict[str, Any]) -> bool:
    try:
        answer = client.action(action, run=number, **body)
    except Unavailable:
        raise
    except StoreError as error:
        complain(error)
        return False
    say(f"#{number} {done(action, answer)}")
    return True


def _allowed(action: str, chosen: Which, yes: bool) -> list[int]:
    """The runs of a filter to which the action can be done, once somebody has seen and approved them."""
    able = [
        run
        for run in chosen.found
        if action not in get_args(Action) or refused(cast("Action", action), run.number, run.state) is None
    ]
    if left := len(chosen.found) - len(able):
        say(f"{left} of {len(chosen.found)} left alone: their state does not allow it")
    if not able:
        raise QueueError("no run that matches is in a state that allows it")
    for run in able:
        say(f"  #{run.number} {run.name}: {run.state}")
    if not yes and not _agreed(f"{action.replace('_', ' ')} {_runs(len(able))}?"):
        raise QueueError("nothing was done")
    return [run.number for run in able]


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise QueueError("a filter asks first, and there is no terminal to ask on; add --yes")
    return typer.confirm(question, err=True)


def _runs(count: int) -> str:
    return "this run" if count == 1 else f"these {count} runs"


def wait(words: list[str], timeout: float | None) -> None:
    """Until the runs have ended or are paused; each is told once it has."""
    began = time.monotonic()
    with connect() as client:
        numbers = which(client, words).numbers
        for number in numbers:
            show_find(client, number)
        left = set(numbers)
        well = True
        while left:
            rows = [row for row in client.named("runs").to_pylist() if row["run"] in left]
            for row in rows:
                if row["state"] not in WAITING | ACTIVE:
                    left.discard(row["run"])
                    well = well and row["state"] == RunState.FINISHED
                    say(line(row))
            if left and timeout is not None and time.monotonic() - began >= timeout:
                say(
                    f"after {timeout:g} s {', '.join(f'#{number}' for number in sorted(left))} still wait or run"
                )
                sys.exit(ExitCode.FAILED)
            if left:
                time.sleep(POLL_S)
    sys.exit(ExitCode.OK if well else ExitCode.FAILED)

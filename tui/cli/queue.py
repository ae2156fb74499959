"""`finetui run`, `check`, and what changes a run's place or state."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from engine.basics.errors import DataError
from engine.client import preflight, submit
from engine.recipe import recipe_file
from finetui.daemon import connect
from finetui.errors import ExitCode, StoreError, Unavailable
from tui.cli.output import complain, out, print_json, say
from tui.orders import done
from tui.reports import Reporting


def run(path: Path, overrides: list[str], *, follow: bool, priority: int, as_json: bool) -> None:
    """Check first, all runs of a sweep, and only then queue: a bad recipe queues nothing."""
    file = recipe_file.read(path, overrides)
    checked = [preflight.check(one, path.parent) for one in file.recipes]
    for warning in dict.fromkeys(warning for report in checked for warning in report.warnings):
        say(f"note: {warning}")
    with connect() as client:
        numbers = submit.submit(client, file, checked, priority=priority)
        for number, report in zip(numbers, checked, strict=True):
            say(f"queued #{number} {report.recipe.name}: {report.summary()}")
        if as_json:
            print_json({"runs": numbers})
        else:
            for number in numbers:
                out(str(number))
        if follow:
            from tui.cli.follow import follow_runs

            sys.exit(ExitCode.OK if follow_runs(client, numbers) else ExitCode.FAILED)
    say(f"watch: finetui   or: finetui logs -f {numbers[0]}")


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
        for line in report.lines():
            out(line)
    for note in notes:
        out(f"  note     {note}")
    command = shlex.join(["finetui", "run", str(path), *overrides])
    out(f"{path}: good, {len(checked)} run{'s' if len(checked) > 1 else ''}; queue with: {command}")


def act(action: str, numbers: list[int], **body: Any) -> None:
    """Do one thing to several runs; goes on after one that is refused, and exits non-zero then."""
    refused = False
    with connect() as client:
        for number in dict.fromkeys(numbers):
            try:
                answer = client.action(action, run=number, **body)
            except Unavailable:
                raise
            except StoreError as error:
                complain(error)
                refused = True
            else:
                say(f"#{number} {done(action, answer)}")
    if refused:
        sys.exit(ExitCode.REFUSED)

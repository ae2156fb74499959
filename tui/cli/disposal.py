"""`finetui rm`, `restore` and `clean`: what goes and how much that frees is shown first, and then asked."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from engine.basics.errors import QueueError
from engine.basics.wording import size
from engine.queue import config
from engine.runs import cleaning
from engine.runs.home import RunDir, run_dirs
from engine.runs.lifecycle import refused
from engine.runs.removed import Removed, bytes_of, removed_runs
from finetui.daemon import connect
from finetui.errors import ExitCode, StoreError, Unavailable
from finetui.home import home
from store.best import judged_by
from store.states import RunState
from tui.cli.output import complain, out, print_table, say
from tui.cli.which import which

if TYPE_CHECKING:
    from finetui.client import Client

Rows = dict[int, dict[str, Any]]


def rm(words: list[str], *, yes: bool) -> None:
    """Remove runs; they can be restored for a while."""
    with connect() as client:
        rows = _rows(client)
        numbers = which(client, words).numbers
        able = [number for number in numbers if _may("remove", number, rows)]
        dirs = {run.number: run for run in run_dirs(home())}
        sizes = {number: bytes_of(dirs[number].path) for number in able if number in dirs}
        if able:
            print_table([{**_named(rows[number]), "size": size(sizes.get(number, 0))} for number in able])
            days = config.read(home().config).keep_removed_days
            freed = f"frees {size(sum(sizes.values()))} when they are deleted for good, in {days:g} days"
            _agree(f"remove {_runs(len(able))}? It {freed}; finetui restore brings them back until then", yes)
        done = [number for number in able if _done(client, "remove", number, "is removed")]
    if len(done) < len(numbers):
        sys.exit(ExitCode.REFUSED)


def restore(numbers: list[int]) -> None:
    """Bring removed runs back; without numbers, list what there is."""
    if not numbers:
        print_table([_listed(one) for one in removed_runs(home())])
        if not removed_runs(home()):
            say("no run was removed, or all of them have been deleted for good")
        return
    with connect() as client:
        done = [_done(client, "restore", number, "is back") for number in numbers]
    if not all(done):
        sys.exit(ExitCode.REFUSED)


def clean(words: list[str], *, checkpoints: bool, removed: bool, yes: bool) -> None:
    """Free what ended runs no longer need, and with `removed` what was removed."""
    with connect() as client:
        if removed:
            _empty(client, yes)
        if words or not removed:
            _clean(client, words, checkpoints, yes)


def _empty(client: Client, yes: bool) -> None:
    found = removed_runs(home())
    if not found:
        say("no run was removed")
        return
    print_table([_listed(one) for one in found])
    _agree(f"delete {_runs(len(found))} for good?", yes)
    say(f"{_runs(client.action('empty')['runs'])} deleted for good")


def _clean(client: Client, words: list[str], checkpoints: bool, yes: bool) -> None:
    rows, dirs = _rows(client), {run.number: run for run in run_dirs(home())}
    finished = [number for number, row in rows.items() if row["state"] == RunState.FINISHED]
    named = which(client, words).numbers if words else finished
    numbers = [number for number in named if _may("clean", number, rows)]
    best = {number: _best(client, rows[number]) for number in numbers}
    found = {
        number: _pieces(dirs[number], rows[number]["state"], best[number], checkpoints)
        for number in numbers
        if number in dirs
    }
    found = {number: one for number, one in found.items() if one}
    if not found and len(numbers) == len(named):
        say(
            "there is nothing to free; --checkpoints also deletes checkpoints other than the best and the last"
        )
    if found:
        _free(client, found, {number: _named(rows[number]) for number in found}, best, checkpoints, yes)
    if len(numbers) < len(named):
        sys.exit(ExitCode.REFUSED)


def _free(
    client: Client,
    found: dict[int, list[cleaning.Piece]],
    names: Rows,
    best: dict[int, int | None],
    checkpoints: bool,
    yes: bool,
) -> None:
    total = sum(piece.bytes for one in found.values() for piece in one)
    print_table([{**names[number], **_counted(one)} for number, one in found.items()])
    _agree(f"free {size(total)} in {_runs(len(found))}? That cannot be undone; weights stay loadable", yes)
    freed = 0
    for number in found:
        freed += client.action("clean", run=number, best=best[number], checkpoints=checkpoints)["bytes"]
    say(f"{size(freed)} freed")


def _pieces(run: RunDir, state: str, best: int | None, checkpoints: bool) -> list[cleaning.Piece]:
    try:
        return cleaning.pieces(run, state, best, checkpoints=checkpoints)
    except OSError as error:
        complain(f"run #{run.number}: {error.filename} cannot be read: {error.strerror}")
        return []


def _counted(pieces: list[cleaning.Piece]) -> dict[str, Any]:
    whole = sum(piece.whole for piece in pieces)
    return {
        "checkpoints": whole,
        "optimiser states": len(pieces) - whole,
        "frees": size(sum(piece.bytes for piece in pieces)),
    }


def _rows(client: Client) -> Rows:
    client.drain(say)
    return {row["run"]: row for row in client.named("runs").to_pylist()}


def _may(action: str, number: int, rows: Rows) -> bool:
    """Whether a run is there and in a state that allows it; says why not."""
    if number not in rows:
        complain(f"there is no run #{number}; finetui ls lists them")
        return False
    why = refused(action, number, rows[number]["state"])  # type: ignore[arg-type]
    if why:
        complain(why)
    return why is None


def _best(client: Client, row: dict[str, Any]) -> int | None:
    """The step of a run's best weights; None where none was evaluated."""
    sql = "SELECT best_step FROM run_summary WHERE run = {} AND key = '{}'"
    found = client.query(sql.format(int(row["run"]), judged_by(row["task"]).metric)).to_pylist()
    return found[0]["best_step"] if found else None


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return {"run": row["run"], "name": row["name"], "state": row["state"]}


def _listed(one: Removed) -> dict[str, Any]:
    return {"run": one.number, "directory": one.path.name, "size": size(bytes_of(one.path))}


def _done(client: Client, action: str, number: int, said: str) -> bool:
    try:
        client.action(action, run=number)
    except Unavailable:
        raise
    except StoreError as error:
        complain(error)
        return False
    out(f"#{number} {said}")
    return True


def _agree(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise QueueError("this asks first, and there is no terminal to ask on; add --yes")
    if not typer.confirm(question, err=True):
        raise QueueError("nothing was done")


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"

"""`finetui rm`, `restore` and `clean`: what goes and how much that frees is shown first, and then asked."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.basics.wording import size
from engine.queue import config
from engine.runs import cleaning
from engine.runs.home import RunDir, run_dirs
from engine.runs.lifecycle import refused
from engine.runs.removed import bytes_of
from finetui.daemon import connect
from finetui.errors import ExitCode
from finetui.home import home
from store.best import judged_by
from store.paths import Removed, removed_runs
from store.states import RunState
from tui.cli.asking import ask_daemon, confirm, runs_in_words
from tui.cli.output import complain, out, print_table, say, waiting
from tui.cli.selection import select

if TYPE_CHECKING:
    from finetui.client import Client

Rows = dict[int, dict[str, Any]]


def rm(words: list[str], *, yes: bool) -> None:
    """Remove runs; they can be restored for a while."""
    with connect() as client:
        rows = _rows(client)
        numbers = select(client, words).numbers
        able = [number for number in numbers if _may("remove", number, rows)]
        dirs = {run.number: run for run in run_dirs(home())}
        sizes = {number: bytes_of(dirs[number].path) for number in able if number in dirs}
        if able:
            print_table([{**_named(rows[number]), "size": size(sizes.get(number, 0))} for number in able])
            days = config.read(home().config).keep_removed_days
            freed = f"frees {size(sum(sizes.values()))} when they are deleted for good, in {days:g} days"
            question = (
                f"remove {runs_in_words(len(able))}? It {freed}; finetui restore brings them back until then"
            )
            confirm(question, yes)
        if not _all_done(client, "remove", able) or len(able) < len(numbers):
            sys.exit(ExitCode.REFUSED)


def restore(numbers: list[int]) -> None:
    """Bring removed runs back; without numbers, list what there is."""
    if not numbers:
        found = removed_runs(home().removed)
        print_table([_listed(one) for one in found])
        if not found:
            say("no run was removed, or all of them have been deleted for good")
        return
    with connect() as client:
        if not _all_done(client, "restore", numbers):
            sys.exit(ExitCode.REFUSED)


def _all_done(client: Client, action: str, numbers: list[int]) -> bool:
    """Do it to one after the other, also after one that is refused; whether none was."""
    sentences = [ask_daemon(client, action, number) for number in numbers]
    for sentence in filter(None, sentences):
        out(sentence)
    return all(sentences)


def clean(words: list[str], *, checkpoints: bool, removed: bool, yes: bool) -> None:
    """Free what ended runs no longer need, and with `removed` what was removed."""
    with connect() as client:
        if removed:
            _empty(client, yes)
        if words or not removed:
            _clean(client, words, checkpoints, yes)


def _empty(client: Client, yes: bool) -> None:
    found = removed_runs(home().removed)
    if not found:
        say("no run was removed")
        return
    print_table([_listed(one) for one in found])
    confirm(f"delete {runs_in_words(len(found))} for good?", yes)
    say(f"{runs_in_words(client.action('empty')['runs'])} deleted for good")


def _clean(client: Client, words: list[str], checkpoints: bool, yes: bool) -> None:
    rows = _rows(client)
    finished = [number for number, row in rows.items() if row["state"] == RunState.FINISHED]
    named = select(client, words).numbers if words else finished
    able = [number for number in named if _may("clean", number, rows)]
    plans = _plans(client, [rows[number] for number in able], checkpoints)
    if plans:
        print_table([{**_named(plan.row), **plan.counts} for plan in plans])
        total, runs = size(sum(plan.bytes for plan in plans)), runs_in_words(len(plans))
        confirm(f"free {total} in {runs}? That cannot be undone; weights stay loadable", yes)
        asked = [{"run": plan.row["run"], "best": plan.best, "checkpoints": checkpoints} for plan in plans]
        say(f"{size(sum(client.action('clean', **one)['bytes'] for one in asked))} freed")
    elif len(able) == len(named):
        say(
            "there is nothing to free; --checkpoints also deletes checkpoints other than the best and the last"
        )
    if len(able) < len(named):
        sys.exit(ExitCode.REFUSED)


@dataclass(frozen=True)
class _Plan:
    """What can go of one run."""

    row: dict[str, Any]
    best: int | None  # step
    pieces: list[cleaning.Piece]

    @property
    def bytes(self) -> int:
        return sum(piece.bytes for piece in self.pieces)

    @property
    def counts(self) -> dict[str, Any]:
        whole = sum(piece.whole for piece in self.pieces)
        return {"checkpoints": whole, "optimiser states": len(self.pieces) - whole, "frees": size(self.bytes)}


def _plans(client: Client, rows: list[dict[str, Any]], checkpoints: bool) -> list[_Plan]:
    """Those of which something can go."""
    dirs = {run.number: run for run in run_dirs(home())}
    plans = []
    for row in rows:
        if row["run"] in dirs:
            best = _best(client, row)
            plans.append(_Plan(row, best, _pieces(dirs[row["run"]], row["state"], best, checkpoints)))
    return [plan for plan in plans if plan.pieces]


def _pieces(run: RunDir, state: str, best: int | None, checkpoints: bool) -> list[cleaning.Piece]:
    try:
        return cleaning.pieces(run, state, best, checkpoints=checkpoints)
    except OSError as error:
        complain(f"run #{run.number}: {error.filename} cannot be read: {error.strerror}")
        return []


def _rows(client: Client) -> Rows:
    client.drain(waiting())
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

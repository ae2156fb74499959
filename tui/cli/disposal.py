"""`finetui rm`, `restore` and `clean`: what goes and how much that frees is shown first, and then asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from engine.basics.wording import size
from engine.queue import config
from engine.runs import cleaning
from engine.runs.home import RunDir, run_dirs
from engine.runs.lifecycle import Action, refused
from engine.runs.removed import bytes_of
from engine.runs.submitted import submitted_value
from finetui.daemon import connect
from finetui.home import home
from store.best import judged_by
from store.paths import Removed, removed_runs
from store.states import RunState
from tui.cli.answers import Answer, ask_for_each, finish, refuse, uuids
from tui.cli.asking import confirm, runs_in_words
from tui.cli.output import complain, out, print_json, print_table, say, waiting
from tui.cli.selection import select
from tui.cli.shape import of_run

if TYPE_CHECKING:
    from finetui.client import Client

Rows = dict[int, dict[str, Any]]


def rm(words: list[str], *, yes: bool, as_json: bool) -> None:
    """Remove runs; they can be restored for a while."""
    with connect() as client:
        rows = _rows(client)
        able, answers = _able("remove", select(client, words).numbers, rows)
        dirs = {run.number: run for run in run_dirs(home())}
        sizes = {number: bytes_of(dirs[number].path) for number in able if number in dirs}
        if able:
            _show([{**_named(rows[number]), "size": size(sizes.get(number, 0))} for number in able], as_json)
            days = config.read(home().config).keep_removed_days
            freed = f"frees {size(sum(sizes.values()))} when they are deleted for good, in {days:g} days"
            question = (
                f"remove {runs_in_words(len(able))}? It {freed}; finetui restore brings them back until then"
            )
            confirm(question, yes=yes, as_json=as_json)
        for answer in ask_for_each(client, "remove", able, say if as_json else out):
            answers.append(replace(answer, more={"bytes": sizes.get(answer.run, 0)}))
    finish(answers, as_json=as_json)


def restore(numbers: list[int], *, as_json: bool) -> None:
    """Bring removed runs back; without numbers, list what there is."""
    if numbers:
        with connect() as client:
            answers = ask_for_each(client, "restore", numbers, say if as_json else out)
        finish(answers, as_json=as_json)
        return
    found = removed_runs(home().removed)
    if as_json:
        print_json([_removed_as_json(one) for one in found])
    else:
        print_table([_listed(one) for one in found])
    if not found:
        say("no run was removed, or all of them have been deleted for good")


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """What a question is about; JSON has it in the answers."""
    if not as_json:
        print_table(rows)


def clean(words: list[str], *, checkpoints: bool, removed: bool, yes: bool, as_json: bool) -> None:
    """Free what ended runs no longer need, and with `removed` what was removed."""
    known = uuids(home(), [one.number for one in removed_runs(home().removed)]) if removed else {}
    answers = []
    with connect() as client:
        if removed:
            answers += _empty(client, yes, as_json)
        if words or not removed:
            answers += _clean(client, words, checkpoints, yes, as_json)
    known = uuids(home(), [answer.run for answer in answers if answer.run not in known]) | known
    finish(answers, as_json=as_json, known=known)


def _empty(client: Client, yes: bool, as_json: bool) -> list[Answer]:
    found = removed_runs(home().removed)
    if not found:
        say("no run was removed")
        return []
    _show([_listed(one) for one in found], as_json)
    sizes = {one.path: bytes_of(one.path) for one in found}
    confirm(f"delete {runs_in_words(len(found))} for good?", yes=yes, as_json=as_json)
    say(f"{runs_in_words(client.action('empty')['runs'])} deleted for good")
    return [Answer(one.number, "is deleted for good", more={"bytes": sizes[one.path]}) for one in found]


def _clean(client: Client, words: list[str], checkpoints: bool, yes: bool, as_json: bool) -> list[Answer]:
    rows = _rows(client)
    finished = [number for number, row in rows.items() if row["state"] == RunState.FINISHED]
    named = select(client, words).numbers if words else finished
    able, answers = _able("clean", named, rows)
    plans = _plans(client, [rows[number] for number in able], checkpoints)
    if plans:
        _show([{**_named(plan.row), **plan.counts} for plan in plans], as_json)
        total, runs = size(sum(plan.bytes for plan in plans)), runs_in_words(len(plans))
        question = f"free {total} in {runs}? That cannot be undone; weights stay loadable"
        confirm(question, yes=yes, as_json=as_json)
        asked = [{"run": plan.row["run"], "best": plan.best, "checkpoints": checkpoints} for plan in plans]
        freed = {one["run"]: client.action("clean", **one)["bytes"] for one in asked}
        say(f"{size(sum(freed.values()))} freed")
        answers += [
            Answer(run, f"has {size(count)} less", more={"bytes": count}) for run, count in freed.items()
        ]
    elif len(able) == len(named):
        say(
            "there is nothing to free; --checkpoints also deletes checkpoints other than the best and the last"
        )
    return answers


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


def _able(action: Action, numbers: list[int], rows: Rows) -> tuple[list[int], list[Answer]]:
    """The runs that are there and in a state that allows it; and of the others, why not, which is said."""
    whys = {number: _why_not(action, number, rows) for number in numbers}
    return [number for number, why in whys.items() if why is None], [
        refuse(number, why) for number, why in whys.items() if why is not None
    ]


def _why_not(action: Action, number: int, rows: Rows) -> str | None:
    if number not in rows:
        return f"there is no run #{number}; finetui ls lists them"
    return refused(action, number, rows[number]["state"])


def _best(client: Client, row: dict[str, Any]) -> int | None:
    """The step of a run's best weights; None where none was evaluated."""
    sql = "SELECT best_step FROM run_summary WHERE run = {} AND key = '{}'"
    found = client.query(sql.format(int(row["run"]), judged_by(row["task"]).metric)).to_pylist()
    return found[0]["best_step"] if found else None


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return {"run": row["run"], "name": row["name"], "state": row["state"]}


def _removed_as_json(one: Removed) -> dict[str, Any]:
    uuid = submitted_value(RunDir(one.path), "uuid", str)
    body = {"run": one.number, "uuid": uuid, "directory": one.path, "bytes": bytes_of(one.path)}
    return of_run({**body, "removed": one.when})


def _listed(one: Removed) -> dict[str, Any]:
    return {"run": one.number, "directory": one.path.name, "size": size(bytes_of(one.path))}

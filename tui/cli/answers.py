"""What came of an order to one run or several: done, or refused and why. Said as it comes; as JSON all together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.runs.home import RunDir, run_dirs
from engine.runs.submitted import submitted_value
from finetui.errors import ExitCode, StoreError, Unavailable
from finetui.home import Home, home
from store.paths import removed_runs
from tui.cli.output import complain, print_json, say
from tui.orders import done

if TYPE_CHECKING:
    from finetui.client import Client


@dataclass(frozen=True)
class Answer:
    """One run, and what is now so of it, or why that was refused."""

    run: int
    words: str
    refused: bool = False
    more: dict[str, Any] = field(default_factory=dict)  # what else the JSON has of it


def ask_daemon(client: Client, action: str, number: int, **body: Any) -> Answer:
    """Have an action done to a run; a refusal is said. Raises Unavailable where no daemon answers."""
    try:
        answer = client.action(action, run=number, **body)
    except Unavailable:
        raise
    except StoreError as error:
        return refuse(number, str(error))
    more = {"made": answer["run"]} if action == "requeue" else {}
    return Answer(number, done(action, answer), more=more)


def ask_for_each(
    client: Client, action: str, numbers: Sequence[int], tell: Callable[[str], object] = say, **body: Any
) -> list[Answer]:
    """Have it done to one after the other, also after one that is refused; `tell` is called with what is now so."""
    answers = []
    for number in numbers:
        answers.append(answer := ask_daemon(client, action, number, **body))
        if not answer.refused:
            tell(f"#{number} {answer.words}")
    return answers


def refuse(number: int, why: str) -> Answer:
    """Say why."""
    complain(why)
    return Answer(number, why, refused=True)


def finish(answers: Sequence[Answer], *, as_json: bool, known: dict[int, str | None] | None = None) -> None:
    """Print what came of it if JSON is asked for, and end with the code for a refusal if there was one. `known`: UUIDs
    from before, where the runs are gone by now.
    """
    if as_json:
        found = uuids(home(), {answer.run for answer in answers}) if known is None else known
        print_json([_as_json(answer, found.get(answer.run)) for answer in answers])
    if any(answer.refused for answer in answers):
        sys.exit(ExitCode.REFUSED)


def _as_json(answer: Answer, uuid: str | None) -> dict[str, Any]:
    refused = answer.refused
    return {
        "run": answer.run,
        "uuid": uuid,
        "outcome": "refused" if refused else "done",
        "says": None if refused else answer.words,
        "reason": answer.words if refused else None,
        **answer.more,
    }


def uuids(home: Home, numbers: Iterable[int]) -> dict[int, str | None]:
    """The UUIDs of runs, read from disk: a run has its own before the store knows of it, and after it has forgotten it.
    None where there is no such run, removed ones included.
    """
    known = {one.number: one.path for one in reversed(removed_runs(home.removed))}
    known |= {run.number: run.path for run in run_dirs(home)}
    return {
        number: submitted_value(RunDir(known[number]), "uuid", str) if number in known else None
        for number in numbers
    }

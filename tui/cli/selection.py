"""Which runs a command is about: numbers (`3`, `5-9`), or a filter as on the screen (`state:queued tag:old`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.basics.errors import QueueError
from tui.cli.output import waiting
from tui.rows import Run, runs_of
from tui.run_filter import MOST_VALUES, parameters, test_of, values_sql

if TYPE_CHECKING:
    from finetui.client import Client

_NUMBERS = re.compile(r"#?(\d{1,9})(?:-(\d{1,9}))?")
MOST = 10_000  # runs in a range


@dataclass(frozen=True)
class Selection:
    """The runs that words stand for."""

    numbers: list[int]
    found: list[Run]  # by a filter, not named one by one; empty without a filter


def select(client: Client, words: list[str]) -> Selection:
    """Return the runs that are named; with a filter those that pass it, of the named ones if there are any. Raises
    QueueError where that is none.
    """
    numbers, terms = (
        parse_numbers([word for word in words if _NUMBERS.fullmatch(word)]),
        [word for word in words if not _NUMBERS.fullmatch(word)],
    )
    if not terms:
        return Selection(numbers, [])
    client.drain(waiting())  # a run that was queued a moment ago is there, too
    text = " ".join(terms)
    runs = runs_of(client.named("runs"))
    params = {
        key: {
            row["run"]: row["value"] for row in client.query(values_sql(key), limit=MOST_VALUES).to_pylist()
        }
        for key in parameters(text)
    }
    passes = test_of(text, params, runs, fuzzy=False)
    found = [run for run in runs if passes(run) and (not numbers or run.number in numbers)]
    if not found:
        raise QueueError(f"no run matches {text}; finetui ls shows what there is")
    return Selection([run.number for run in found], found)


def parse_numbers(words: list[str]) -> list[int]:
    """Return the numbers that words name, each once. Raises QueueError."""
    numbers: dict[int, None] = {}
    for part in (part for word in words for part in word.split(",")):
        match = _NUMBERS.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < first + MOST:
            raise QueueError(
                f"{part!r} names no runs: give a number, or a range such as 5-9 of at most {MOST:,}"
            )
        numbers |= dict.fromkeys(range(first, last + 1))
    return list(numbers)

"""`finetui import`: the runs of other tools, and of other homes, become runs here."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from engine.basics.errors import QueueError
from engine.importing import homes, look, take_in
from engine.importing.foreign import Candidate, Tool, Unusable
from engine.importing.take_in import Outcome
from engine.runs.imported import OURS, TITLES
from finetui.daemon import answering
from finetui.errors import ExitCode, StoreError
from finetui.home import Home, home
from tui.cli.output import out, print_json, say

if TYPE_CHECKING:
    from finetui.client import Client

PROGRESS_S = 5.0  # between lines that say how far it is


def import_runs(paths: Sequence[Path], tool: str | None, *, dry: bool, as_json: bool) -> None:
    """Look everywhere first, then take in what was found, and say of each run what became of it."""
    chosen = _tool(tool)
    candidates, others, problems = _found(paths, chosen)
    if not candidates and not others and not problems:
        what = f"of {tool}" if tool else "that can be imported"
        raise Unusable(
            f"nothing {what} is in {', '.join(map(str, paths))}; docs/importing.md says what is read"
        )
    home().create()
    outcomes: list[Outcome] = []
    try:
        with take_in.alone(home()):
            for outcome in _all(candidates, others, partial(_let_read, answering(home())), dry=dry):
                outcomes.append(outcome)
                if not as_json:
                    _print(outcome, dry=dry)
    except OSError as error:
        raise QueueError(
            f"{error.filename or home().path}: {error.strerror}; what was imported stays"
        ) from None
    for place, why in problems:
        say(f"passed over: {place}: {why}")
    if as_json:
        print_json({"runs": [_row(outcome) for outcome in outcomes], "passed_over": [
            {"place": place, "why": why} for place, why in problems]})  # fmt: skip
    _say_counts(outcomes, dry=dry)
    if any(outcome.what == "failed" for outcome in outcomes):
        raise typer.Exit(ExitCode.FAILED)


def _tool(name: str | None) -> Tool | None:
    for known in look.TOOLS:
        if known == name:
            return known
    if name is not None:
        raise typer.BadParameter(f"{name} is none of {', '.join(look.TOOLS)}", param_hint="--from")
    return None


def _found(
    paths: Sequence[Path], tool: Tool | None
) -> tuple[list[Candidate], list[Home], list[tuple[str, str]]]:
    """Return the runs and homes at some paths, each once, and what is passed over there."""
    candidates: dict[tuple[str, str], Candidate] = {}
    others: list[Home] = []
    problems: list[tuple[str, str]] = []
    for path in paths:
        other = look.home_at(path) if tool in (None, OURS) else None
        if other is not None:
            others.append(other)
        if other is not None or tool == OURS:
            continue
        found = look.look(path, tool)
        candidates |= {(one.tool, one.place): one for one in found.candidates}
        problems += found.problems
    return list(candidates.values()), others, problems


def _let_read(daemon: Client | None) -> None:
    """Wait until the daemon, if there is one, has read what has come: else others would have to wait for its answers
    while it reads thousands of runs.
    """
    if daemon is not None:
        with suppress(StoreError):  # it stops: the next one reads them
            daemon.drain()


def _all(
    candidates: Sequence[Candidate], others: Sequence[Home], settled: Callable[[], object], *, dry: bool
) -> Iterator[Outcome]:
    """Yield what becomes of each run, and say now and then how far that is."""
    began = told = time.monotonic()
    for done, outcome in enumerate(take_in.take_in(home(), candidates, dry=dry, settled=settled), 1):
        yield outcome
        if time.monotonic() - told >= PROGRESS_S:
            told = time.monotonic()
            say(f"{done:,} of {len(candidates):,} runs, {done / (told - began):.0f} a second")
    for other in others:
        yield from homes.take_in_home(home(), other, dry=dry)


def _print(outcome: Outcome, *, dry: bool) -> None:
    """Print a run that is new or went on; on stderr, one that failed, and what of it could not be taken."""
    if outcome.what == "failed":
        say(f"not imported: {outcome.why}")
    elif outcome.what in ("new", "grown"):
        number = "" if outcome.number is None else f"#{outcome.number} "
        went_on = f"; it went on: {outcome.points:,} points are new" if outcome.what == "grown" else ""
        measures = ""
        if outcome.tool != OURS:
            measures = f", {outcome.metrics} {'metric' if outcome.metrics == 1 else 'metrics'} to step {outcome.steps}"
        title = TITLES.get(outcome.tool, "another home")
        out(f"{number}{outcome.name}: {outcome.state}{measures} ({title}){went_on}")
    for note in outcome.notes:
        say(f"warning: {note}")


def _say_counts(outcomes: Sequence[Outcome], *, dry: bool) -> None:
    counts = Counter(outcome.what for outcome in outcomes)
    new = counts["new"]
    parts = [
        f"{new:,} {'run' if new == 1 else 'runs'} {'would be' if dry else ''} imported".replace("  ", " ")
    ]
    words = {
        "grown": "went on since",
        "known": "here already",
        "removed": "removed here (finetui restore brings them back)",
        "failed": "cannot be imported",
    }
    parts += [f"{counts[what]:,} {words[what]}" for what in words if counts[what]]  # type: ignore[index]
    say(", ".join(parts))


def _row(outcome: Outcome) -> dict[str, Any]:
    return {
        "outcome": outcome.what, "run": outcome.number, "name": outcome.name or None, "tool": outcome.tool,
        "place": outcome.place, "state": outcome.state or None, "step": outcome.steps, "metrics": outcome.metrics,
        "points": outcome.points, "notes": list(outcome.notes), "why": outcome.why or None,
    }  # fmt: skip

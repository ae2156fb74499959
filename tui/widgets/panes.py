"""Flags as lines: pure functions of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.basics.safe_text import one_line
from engine.flags import words
from engine.recipe.kinds import COMMAND
from store.states import RunState
from tui.bindings import key_of
from tui.lines.text import Line, cut, fit, left, line_width, wrap
from tui.rows import Row, Run

# ---- flags ---------------------------------------------------------------------------------------

_LEVEL_STYLE = {"critical": "bad", "warn": "warn", "watch": "accent", "info": "accent"}
_LABEL = 10  # columns of the names of facts


def flags(rows: Sequence[Row], worst: Sequence[Row], run: Run | None, width: int) -> list[Line]:
    """Each flag with its evidence: what, since when, how much with interval, on how many, the examples hit hardest
    (rows of the named query `worst`), what to do.
    """
    if run is None:
        return [[("no run selected", "dim")]]
    if not rows:
        return [[(f"#{run.number} has no flags", "dim")], *_no_flags_yet(run, width)]
    texts = {row["example"]: row["prompt"] or row["target"] or row["example"] for row in worst}
    lines: list[Line] = []
    for row in words.newest(rows):
        lines += [*_flag(row, texts, width), []]
    if run.method == COMMAND:
        return lines[:-1]
    shows = f"{key_of('show_examples', 'dashboard')} shows the examples"
    makes = f"; {key_of('fix', 'dashboard')} makes a recipe of the first things to do"
    return [*lines, [(f"{shows}{makes if run.flags and not run.logged else ''}", "faint")]]


def _no_flags_yet(run: Run, width: int) -> list[Line]:
    if run.state in (RunState.QUEUED, RunState.STARTING):
        return []
    text = "watched: overfitting, forgetting, leaks, instability, NaN, a run that stands still, answers that never end"
    if run.method == COMMAND or run.logged:
        text = "watched in its curves: a loss that is no number, jumps, a held-out loss that rises"
    return [[(line, "faint")] for line in wrap(text, width)]


def _flag(row: Mapping[str, Any], texts: Mapping[str, str], width: int) -> list[Line]:
    style = "dim" if words.is_withdrawn(row) else _LEVEL_STYLE.get(row["level"], "warn")
    head: Line = [(f"⚑ {row['flag']}", style), (f" {words.level(row)}", style)]
    head += [(f"  {words.when(row)}", "text"), (f" · {one_line(words.where(row))}", "dim")]
    lines = [fit(head, width)]
    for name, text in words.evidence(row):
        lines += _fact(name, text, "text", width)
    lines += [[(f"  {line}", "dim")] for line in wrap(one_line(row.get("message") or ""), width - 2)]
    for sentence in words.advice(row):
        wrapped = wrap(one_line(sentence), width - 4)
        lines += [[("  → " if at == 0 else "    ", style), (line, "text")] for at, line in enumerate(wrapped)]
    for at, (change, text) in enumerate(words.worst(row, texts)):
        shown: Line = [(left("  worst" if at == 0 else "", _LABEL + 2), "faint"), (f"{change}  ", "text")]
        lines.append([*shown, (cut(one_line(text), width - line_width(shown)), "dim")])
    return lines


def _fact(name: str, text: str, style: str, width: int) -> list[Line]:
    wrapped = wrap(one_line(text), max(10, width - _LABEL - 2))
    return [
        [(left(f"  {name}" if at == 0 else "", _LABEL + 2), "faint"), (line, style)]
        for at, line in enumerate(wrapped)
    ]

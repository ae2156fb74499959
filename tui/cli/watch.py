"""`finetui watch`: one run in a few lines, live until it ends."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.basics.safe_text import one_line
from engine.basics.wording import duration
from engine.flags import words
from finetui.daemon import connect
from finetui.errors import ExitCode, StoreError
from store.best import judged_by
from store.states import ACTIVE, WAITING, RunState
from tui.cli import inline
from tui.cli.follow import follow_runs, line, print_run
from tui.cli.output import out, say, waiting
from tui.cli.show import find
from tui.lines import format, theme
from tui.lines.sparkline import sparkline
from tui.lines.text import Line, line_width, wrap
from tui.widgets.run_table import bar

if TYPE_CHECKING:
    from finetui.client import Client

Row = dict[str, Any]
Flag = Mapping[str, Any]
MOST_FLAGS = 3  # shown whole; `finetui show` has all of them


def watch(number: int, every: float, *, once: bool, as_json: bool) -> None:
    """Exit code 1 unless the run has finished, as with `finetui wait`."""
    with connect() as client:
        client.drain(waiting())
        shown = _Run(client, number)
        if as_json and once:
            return print_run(client, shown.row)
        if once:
            inline.print_lines(shown.draw(*inline.size()))
            return
        if as_json or not sys.stdout.isatty():
            tell = partial(print_run, client) if as_json else lambda row: out(line(row), flush=True)
            finished = follow_runs(client, [number], tell)
            sys.exit(ExitCode.OK if finished else ExitCode.FAILED)
        if not inline.keep_drawing(shown.draw, shown.has_ended, every):
            say(f"run #{number} is left alone; finetui watch {number} shows it again")
    sys.exit(ExitCode.OK if shown.row["state"] == RunState.FINISHED else ExitCode.FAILED)


class _Run:
    """The run as it was at the last look."""

    def __init__(self, client: Client, number: int) -> None:
        self._client, self._number = client, number
        self.row = find(client, number)

    def has_ended(self) -> bool:
        return self.row["state"] not in WAITING | ACTIVE

    def draw(self, width: int, height: int) -> list[Line]:
        try:
            self.row = find(self._client, self._number)
        except StoreError as error:
            if error.kind != "not_found":
                raise
            self._client.drain()  # a daemon that has just begun may not have read it
            self.row = find(self._client, self._number)
        flags = words.newest(self._client.named("flags", run=self._number).to_pylist())
        heldout = judged_by(self.row["task"]).metric
        curves = {key: self._curve(key, width) for key in ("train/loss", heldout, "general/loss")}
        return lines(self.row, curves, flags, width - 1)[:height]

    def _curve(self, key: str, buckets: int) -> list[float]:
        rows = self._client.named("curves", runs=[self._number], key=key, buckets=buckets).to_pylist()
        return [math.nan if row["last"] is None else row["last"] for row in rows]


def lines(row: Row, curves: dict[str, list[float]], flags: Sequence[Flag], width: int) -> list[Line]:
    """What is shown of a run: state, progress, losses with their curves, flags with what they say."""
    longest = max(map(len, curves))
    return [
        *_head(row, width),
        *_progress(row, width),
        *(_loss(f"{name:<{longest}}", values, width) for name, values in curves.items() if values),
        *(line for flag in flags[:MOST_FLAGS] for line in _flag(flag, width)),
        *_more(len(flags) - MOST_FLAGS, row["run"]),
    ]


def _head(row: Row, width: int) -> list[Line]:
    look = theme.state_look(row["state"])
    head: Line = [(f"#{row['run']} ", "dim"), (f"{one_line(row['name'])}  ", "title")]
    head.append((f"{look.glyph} {row['state']}", look.style))
    why = (row["waiting_for"] if row["state"] in WAITING else row["reason"]) or ""
    if row["state"] == RunState.RUNNING:
        why = row["phase"] or ""
    if line_width(head) + 2 + line_width([(why, "")]) <= width:
        return [[*head, (f"  {why}", "dim")]] if why else [head]
    return [head, *([(text, "dim")] for text in wrap(one_line(why), width))]


def _progress(row: Row, width: int) -> list[Line]:
    if not row["total_steps"]:
        return []
    step = row["step"] or 0
    facts = [f"step {step}/{row['total_steps']}", f"{min(1.0, step / row['total_steps']):.0%}"]
    left = [f"{duration(row['elapsed_s'])} so far"]
    if row["state"] == RunState.RUNNING:
        left = [f"{duration(row['eta_s'])} left"]
        if row["tokens_per_s"]:
            left.append(f"{format.count(row['tokens_per_s'])} tokens/s")
    start, end = "  ".join(facts) + "  ", "  " + "  ".join(left)
    room = min(40, width - line_width([(start, ""), (end, "")]))
    meter = bar(step / row["total_steps"], room, "bar") if room >= 4 else []
    return [[(start, "text"), *meter, (end, "text")]]


def _loss(name: str, values: list[float], width: int) -> Line:
    start = f"{name}{format.loss(values[-1]):>8}  "
    curve = sparkline(values, min(60, width - len(start)))
    return [(start, "text"), (curve, "accent")]


def _flag(flag: Flag, width: int) -> list[Line]:
    style = "dim" if words.is_withdrawn(flag) else "bad" if flag["level"] == "critical" else "warn"
    head = f"⚑ {flag['flag']} {words.level(flag)}, {words.when(flag)}: {one_line(flag['message'] or '')}"
    wrapped = wrap(head, width - 2)
    return [[("  " if at else "", ""), (text, "text" if at else style)] for at, text in enumerate(wrapped)]


def _more(count: int, number: int) -> list[Line]:
    if count <= 0:
        return []
    return [[(f"{count} more flag{'s' if count > 1 else ''}: finetui show {number}", "dim")]]

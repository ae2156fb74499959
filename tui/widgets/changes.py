"""Examples by their change, as lines: what is compared, and one line an example (rows of the named query `changes`)."""

from __future__ import annotations

from collections.abc import Sequence

from engine.basics.safe_text import one_line
from engine.flags import words as flag_words
from tui.lines import format
from tui.lines.looks import SUITES, Compared
from tui.lines.text import Line, cut, fit, left, line_width, right, spread, width_of
from tui.rows import Row

MOST_SLICE = 12  # columns
MOST_TOKENS = 7


def style(change: float | None) -> str:
    """A rise of a loss is bad; without colour the sign says it."""
    return "bad" if change and change > 0 else "good" if change and change < 0 else "dim"


def scope(compared: Compared, flags: Sequence[Row], width: int) -> Line:
    """Which suite, slice and looks; at the right a flag that is raised on them."""
    name = SUITES.get(compared.suite, one_line(compared.suite))
    part = f", slice {one_line(compared.slice)}" if compared.slice else ""
    start: Line = [(f" {name}{part}", "bright"), (f"   {compared.words()}", "text")]
    named = [flag for flag in flag_words.newest(flags) if flag.get("suite") == compared.suite]
    if not named or line_width(start) + 20 > width:
        return start
    flag = named[0]
    gone = flag_words.is_withdrawn(flag)
    return spread(start, [(f"⚑ {flag['flag']} {flag_words.level(flag)} ", "dim" if gone else "warn")], width)


def summary(compared: Compared, rows: Sequence[Row], best_first: bool, words: str) -> str:
    """How many were compared, and what came of all of them together."""
    if not rows:
        what = f' with "{words}"' if words else " scored at both looks"
        return f"no example{what}"
    all_of = rows[0]
    count, most = all_of["examples"], compared.most
    number = f"{count} examples" if count == most else f"{count} of {most} examples"
    with_words = f' with "{words}"' if words else ""
    worse, better = all_of["worse"], all_of["better"]
    mean = f"mean {format.delta(all_of['mean'])} nats per {all_of['per']}"
    order = "best first" if best_first else "worst first"
    return f"{number}{with_words}: {worse} worse, {better} better, {mean}; {order}"


def head(rows: Sequence[Row], width: int) -> Line:
    slices = slice_width(rows)
    part = left("slice", slices) + " " * bool(slices)
    text = f" {right('change', 8)} {right('before', 7)} {right('after', 7)} {right('tokens', MOST_TOKENS)}  {part}text"
    return [(cut(text, width), "faint")]


def slice_width(rows: Sequence[Row]) -> int:
    """Columns of the slices, 0 where there are none."""
    return min(MOST_SLICE, max((width_of(one_line(row["slice"])) for row in rows if row["slice"]), default=0))


def line(row: Row, slices: int, under: bool, width: int) -> Line:
    """One example; what is cut of its text stands beside or below the list."""
    losses = f" {right(format.loss(row['before']), 7)} {right(format.loss(row['after']), 7)}"
    part = left(one_line(row["slice"] or ""), slices) + " " if slices else ""
    shown: Line = [
        ("▌", "cursor") if under else (" ", ""),
        (right(format.delta(row["change"]), 8), style(row["change"])),
        (losses, "text"),
        (right(format.count(row["tokens"]), MOST_TOKENS + 1) + "  ", "dim"),
        (part, "dim"),
    ]
    text = " ".join(one_line(row["text"] or row["example"]).split())
    shown.append((cut(text, width - line_width(shown)), "bright" if under else "text"))
    return fit(shown, width)

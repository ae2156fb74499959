"""The lines around the panes: a rule with the names of panes or sections, and the keys at the bottom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tui import bindings
from tui.bindings import Context
from tui.key_names import writes_text
from tui.lines.text import Line, block, cut, line_width


def tabs(room: str, names: Sequence[str], chosen: int, width: int) -> Line:
    """A rule with the names of the panes of a screen and their number keys."""
    line: Line = [("─", "rule")]
    for index, name in enumerate(names):
        is_chosen = index == chosen
        line += [
            (f" {_pane_key(room, index)}", "key" if is_chosen else "faint"),
            (f" {name} ", "title" if is_chosen else "dim"),
            ("─", "rule"),
        ]
    return [*line, ("─" * max(0, width - line_width(line)), "rule")]


def _pane_key(room: str, index: int) -> str:
    return bindings.key_of(f"pane({index + 1})", room)


def tab_places(room: str, names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where each of the names stands in the rule of `tabs`: the first column, and the one behind the last."""
    start = 1
    for index, name in enumerate(names):
        end = start + line_width([(f" {_pane_key(room, index)} {name} ", "")])
        yield start, end
        start = end + 1


def tab_at(room: str, names: Sequence[str], column: int) -> int | None:
    """Which of the names stands at a column; None on the rule itself."""
    places = enumerate(tab_places(room, names))
    return next((index for index, (start, end) in places if start <= column < end), None)


def sentence(text: str, style: str, width: int, most: int) -> list[Line]:
    """What is said in place of the keys, whole: in as many lines as it needs. Of more than `most` the last one stays,
    with what a question can be answered, or what to do.
    """
    rows = block(text, width - 2)
    if len(rows) > most:
        rows = [*rows[: most - 2], f"{cut(rows[most - 2], width - 4)} …", rows[-1]]
    return [[(f" {row}", style)] for row in rows]


def _means(binding: bindings.Binding, context: Context) -> bool:
    """Whether a key does something now."""
    if binding.writes and context.readonly:
        return False
    if binding.action in bindings.FOOTER_OF_CHARTS and context.no_chart:
        return False
    if context.typing and all(map(writes_text, binding.keys)):
        return False
    return binding.unless(context) is None


def footer(room: str, width: int, context: Context) -> Line:
    """Keys of a screen that mean something now: as many as fit, help always."""
    shown = [one for one in bindings.bindings_of(room) if one.footer and _means(one, context)]
    always = [
        one for one in shown if one.action in ("help", "back") and (one.action, room) != ("back", "dashboard")
    ]
    end: Line = []
    for binding in always:
        end += [(bindings.key_name(binding.keys[0]), "key"), (f" {binding.label} ", "dim")]
    line: Line = [(" ", "")]
    for binding in shown:
        if binding in always or binding.action == "back":
            continue
        entry: Line = [(bindings.key_name(binding.keys[0]), "key"), (f" {binding.label}  ", "dim")]
        if line_width(line) + line_width(entry) + line_width(end) > width:
            break
        line += entry
    return [*line, (" " * (width - line_width(line) - line_width(end)), ""), *end]

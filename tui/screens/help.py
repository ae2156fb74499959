"""All keys of the screen below, from the binding table: type to search, enter to do it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from textual.app import ComposeResult
from textual.message import Message

from tui import bindings
from tui.lines.scroll import visible_top
from tui.lines.text import Line, left, wrap
from tui.screens.base import BaseScreen
from tui.screens.place import Place
from tui.widgets.panel import Panel
from tui.widgets.prompt import Prompt

_KEYS, _LABEL = 16, 15


class HelpScreen(BaseScreen, inherit_bindings=False):
    """A searchable, executable list."""

    room = "help"
    begins_with_line = True

    def __init__(self, below: str) -> None:
        super().__init__()
        self.below = below
        self.words = ""
        self.cursor = 0
        self.top = 0
        self._entries: list[int] = []  # of each line in view, the entry that it belongs to

    def compose(self) -> ComposeResult:
        yield Panel(self.paint_header, id="header", classes="line")
        yield Panel(self.paint_list, id="list", classes="framed", title="Keys")
        takes = bindings.key_of("take", "line")
        hint = f"type to search, ↑ ↓ to choose, {takes} to do it, esc to close"
        yield Prompt("search", "", hint, self.host.ascii_only)

    def on_mount(self) -> None:
        self.query_one(Prompt).input.focus()
        self.host.line_is_there()

    def header_start(self) -> Line:
        return [(f" help · {bindings.SCREENS[self.below].lower()}", "bright")]

    def matches(self) -> list[bindings.Binding]:
        words = self.words.lower().split()
        return [
            binding
            for binding in bindings.bindings_of(self.below)
            if all(word in _haystack(binding) for word in words) and not binding.action.startswith("pane(")
        ]

    def paint_list(self, width: int, height: int) -> list[Line]:
        matches = self.matches()
        if not matches:
            return [[(f"no key does {self.words!r}", "dim")]]
        self.cursor = max(0, min(self.cursor, len(matches) - 1))
        room = max(10, width - 2 - _KEYS - _LABEL)
        longest = max(len(wrap(binding.help, room)) for binding in matches)
        self.top = visible_top(self.top, self.cursor, len(matches), max(1, height - longest + 1))
        lines: list[Line] = []
        self._entries = []
        for at, binding in enumerate(matches[self.top :], start=self.top):
            entry = _entry(binding, at == self.cursor, room)
            lines += entry
            self._entries += [at] * len(entry)
        del self._entries[height:]
        return lines[:height]

    def on_prompt_changed(self, message: Message) -> None:
        assert isinstance(message, Prompt.Changed)
        self.words = message.text
        if not message.done:
            self.cursor = 0
            self.update_panels()
            return
        matches = [] if message.cancelled else self.matches()
        self.host.leave_screen()
        if matches:
            self.app.call_later(self.host.act, matches[self.cursor].action)

    def click(self, panel: str, row: int, column: int) -> None:
        if panel == "list" and row < len(self._entries):
            self.cursor = self._entries[row]
            self.update_panels()

    def places(self) -> Iterable[Place]:
        for row, at in enumerate(self._entries):
            if at not in self._entries[:row]:
                name = self.matches()[at].label
                yield Place(name, partial(self.move, at - self.cursor), self.place_in("#list", row))

    def page(self) -> int:
        return 8

    def move(self, by: int) -> None:
        self.cursor += by  # painting keeps it inside
        self.update_panels()


def _entry(binding: bindings.Binding, chosen: bool, room: int) -> list[Line]:
    """One line, its end cut on a narrow screen; under the cursor all of it."""
    keys = " ".join(map(bindings.key_name, binding.keys))
    head: Line = [
        ("▌ ", "cursor") if chosen else ("  ", ""),
        (left(keys, _KEYS), "key"),
        (left(binding.label, _LABEL), "text"),
    ]
    if not chosen:
        return [[*head, (binding.help, "dim")]]
    first, *rest = wrap(binding.help, room)
    return [[*head, (first, "text")], *([(" " * (2 + _KEYS + _LABEL), ""), (part, "text")] for part in rest)]


def _haystack(binding: bindings.Binding) -> str:
    return f"{' '.join(map(bindings.key_name, binding.keys))} {binding.label} {binding.help}".lower()

"""The editor of the SQL screen: highlighting, and a list under the cursor of what may come next."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate

from rich.text import Text
from textual import events
from textual.message import Message
from textual.widgets import TextArea

from tui.bindings import keys_of
from tui.lines import theme
from tui.lines.scroll import visible_top
from tui.lines.sql import tokens
from tui.lines.text import Line, fit, left, width_of
from tui.widgets.completion import Item, Names, Suggestions, suggest
from tui.widgets.panel import Panel

SHOWN = 8  # lines of the list
_WIDEST_NAME = 32
_STYLES = {
    "comment": "faint",
    "text": "s3",
    "number": "s1",
    "keyword": "accent",
    "table": "s2",
    "column": "bright",
}


class Completion(Panel):
    """The list: over all else, at a place of the screen. `chosen` is None until an arrow has moved into it."""

    DEFAULT_CSS = """
    Completion {
        layer: over; position: absolute; display: none; background: $ft-surface;
    }
    """

    class Moved(Message):
        """Another name is under the cursor, or the list is closed."""

    def __init__(self) -> None:
        super().__init__(self.paint_items, id="completion")
        self.found: Suggestions | None = None
        self.chosen: int | None = None
        self._top = 0

    def show(self, found: Suggestions | None, x: int, y: int) -> None:
        """Show a list below the column and line of the screen where the word begins, or above; None closes it."""
        self.found, self.chosen, self._top = found, None, 0
        was_open, self.display = self.display, found is not None
        if self.display or was_open:
            self.post_message(self.Moved())
        if found is None:
            return
        screen = self.app.size
        wide = max(min(_WIDEST_NAME, width_of(item.name)) for item in found.items)
        width = min(screen.width, max(wide + 34, min(wide + 60, screen.width - x)))
        height = min(SHOWN, len(found.items))
        below = y + 1 + height <= screen.height - 1
        self.styles.width, self.styles.height = width, height
        self.styles.offset = (
            max(0, min(x - 1, screen.width - width)),
            y + 1 if below else max(0, y - height),
        )
        self.repaint()

    def move(self, by: int) -> None:
        if self.found:
            count = len(self.found.items)
            start = -1 if self.chosen is None and by > 0 else (self.chosen or 0)
            self.chosen = (start + by) % count
            self.post_message(self.Moved())
            self.repaint()

    def item(self) -> Item | None:
        """What a tab inserts."""
        return self.found.items[self.chosen or 0] if self.found else None

    def paint_items(self, width: int, height: int) -> list[Line]:
        items = self.found.items if self.found else ()
        self._top = visible_top(self._top, self.chosen or 0, len(items), height)
        wide = max((min(_WIDEST_NAME, width_of(item.name)) for item in items), default=0)
        return [
            self._line(items[at], at == self.chosen, wide, width)
            for at in range(self._top, min(len(items), self._top + height))
        ]

    def _line(self, item: Item, chosen: bool, wide: int, width: int) -> Line:
        style = "cell" if chosen else "bright"
        kind = f"{item.kind} of {item.table}" if item.table else item.kind
        return fit(
            [("▏", "accent"), (left(item.name, wide), style), (f"  {kind}  ", "dim"), (item.about, "faint")],
            width,
        )


class Editor(TextArea):
    """Enter runs a query of one line or one that ends with `;`, else it starts a new line."""

    class Submitted(Message):
        """Run the query."""

    class Left(Message):
        """Escape: out of the editor."""

    def __init__(self, text: str, completion: Completion) -> None:
        super().__init__(text, id="editor", classes="framed", tab_behavior="focus", soft_wrap=True)
        self.cursor_blink = False
        self.completion = completion
        self.names = Names()
        self._tables: frozenset[str] = frozenset()
        self._columns: frozenset[str] = frozenset()
        self._suggested_at = ("", 0)  # text and offset that the list is for
        self._painted: tuple[str, dict[int, list[tuple[int, int, str]]]] = ("", {})

    def learn(self, names: Names) -> None:
        """The names that are completed and highlighted from now on."""
        self.names = names
        lists = ("table", "view", "macro")
        self._tables = frozenset(item.name for item in names.items if item.kind in lists)
        self._columns = frozenset(item.name for item in names.items if item.kind == "column")
        self._painted = ("", {})
        self.notify_style_update()
        self.refresh()

    # ---- keys ------------------------------------------------------------------------------------

    async def _on_key(self, event: events.Key) -> None:
        if self._take(event):
            event.stop()
            event.prevent_default()
            return
        await super()._on_key(event)
        if event.is_printable:
            self._suggest(asked=False)

    def action_delete_left(self) -> None:
        super().action_delete_left()
        self._suggest(asked=False)

    def _take(self, event: events.Key) -> bool:
        """Whether the key meant something of ours."""
        open_list = self.completion.found is not None
        key = "ctrl+space" if event.key == "ctrl+@" else event.key  # what a terminal sends for it
        complete, suggest_now, new_line = (
            keys_of(action, "editor") for action in ("complete", "suggest", "new_line")
        )
        match key:
            case _ if open_list and key in complete:
                self._accept()
            case _ if key in suggest_now:
                self._suggest(asked=True)
            case _ if key in new_line:
                self.insert("\n")
            case "up" | "down" if open_list:
                self.completion.move(1 if key == "down" else -1)
            case "enter" if self.completion.chosen is not None:
                self._accept()
            case "enter" if "\n" not in self.text or self.text.rstrip().endswith(";"):
                self.close_list()
                self.post_message(self.Submitted())
            case "escape" if open_list:
                self.close_list()
            case "escape":
                self.post_message(self.Left())
            case _:
                return False
        return True

    # ---- completion ------------------------------------------------------------------------------

    def on_text_area_changed(self, _: TextArea.Changed) -> None:
        self._close_elsewhere()

    def on_text_area_selection_changed(self, _: TextArea.SelectionChanged) -> None:
        self._close_elsewhere()

    def _close_elsewhere(self) -> None:
        """A text or cursor that has changed by other means than typing leaves the list behind."""
        if self.completion.found and self._suggested_at != (self._text(), self._offset()):
            self.close_list()

    def on_blur(self) -> None:
        self.close_list()

    def close_list(self) -> None:
        self.completion.show(None, 0, 0)

    def _text(self) -> str:
        """With a line break of one character, wherever the text came from, so that offsets are right."""
        return "\n".join(self.document.lines)

    def _offset(self) -> int:
        row, column = self.cursor_location
        return sum(len(line) + 1 for line in self.document.lines[:row]) + column

    def _suggest(self, *, asked: bool) -> None:
        self._suggested_at = text, at = self._text(), self._offset()
        found = suggest(text, at, self.names, asked=asked)
        cursor = self.cursor_screen_offset
        self.completion.show(found, cursor.x - (at - found.start if found else 0), cursor.y)

    def _accept(self) -> None:
        found, item = self.completion.found, self.completion.item()
        assert found
        assert item
        text, whole, at = item.insert, self._text(), self._offset()
        if item.kind == "value" and whole[at : at + 1] != "'":
            text += "'"
        elif whole[at : at + 1] == "(":
            text = text.removesuffix("(")
        self.close_list()
        before = whole[: found.start]
        start = before.count("\n"), found.start - before.rfind("\n") - 1
        self.replace(text, start, self.cursor_location)

    def word(self) -> str:
        """The name that the cursor is in or behind."""
        at = self._offset()
        found = [token for token in tokens(self._text()) if token.start <= at <= token.end]
        return found[0].text.strip('"') if found and found[0].kind in ("name", "keyword") else ""

    # ---- highlighting ----------------------------------------------------------------------------

    def get_line(self, line_index: int) -> Text:
        line = super().get_line(line_index)
        color = not self.app.no_color
        for start, end, style in self._highlighted().get(line_index, ()):
            line.stylize(theme.style(style, color), start, end)
        return line

    def _highlighted(self) -> dict[int, list[tuple[int, int, str]]]:
        """Columns and styles by line, made again when the text has changed."""
        text = self._text()
        if self._painted[0] != text or not self._painted[1]:
            self._painted = (text, self._highlight(text))
        return self._painted[1]

    def _highlight(self, text: str) -> dict[int, list[tuple[int, int, str]]]:
        ends = list(accumulate(len(line) + 1 for line in text.split("\n")))
        spans: dict[int, list[tuple[int, int, str]]] = {}
        for token in tokens(text):
            if not (style := _STYLES.get(self._kind(token.kind, token.text.lower()))):
                continue
            for row in range(bisect_right(ends, token.start), bisect_left(ends, token.end) + 1):
                start = ends[row - 1] if row else 0
                spans.setdefault(row, []).append((max(0, token.start - start), token.end - start, style))
        return spans

    def _kind(self, kind: str, name: str) -> str:
        if kind != "name":
            return kind
        return "table" if name in self._tables else "column" if name in self._columns else ""

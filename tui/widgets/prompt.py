"""One line of input in place of the status line: the live filter, the search in help."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from tui.lines.theme import to_ascii


class Prompt(Horizontal):
    """`name: …`; tells of every change. Enter keeps the text and closes, escape clears it and closes."""

    DEFAULT_CSS = """
    Prompt { height: 1; }
    Prompt Static { width: auto; padding: 0 1; }
    Prompt Input { width: 1fr; }
    """

    class Changed(Message):
        """The text is now `text`; `done` when the prompt closes, `cancelled` when by escape."""

        def __init__(self, text: str, done: bool = False, cancelled: bool = False) -> None:
            super().__init__()
            self.text, self.done, self.cancelled = text, done, cancelled

    def __init__(self, name: str, text: str, hint: str, ascii_only: bool) -> None:
        super().__init__()
        self._label = name
        self.input = Input(text, placeholder=to_ascii(hint) if ascii_only else hint, compact=True)
        self.input.cursor_blink = False

    def compose(self) -> ComposeResult:
        yield Static(f"{self._label}:")
        yield self.input

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(self.Changed(event.value, done=True))

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            event.stop()
            event.prevent_default()
            self.post_message(self.Changed("", done=True, cancelled=True))

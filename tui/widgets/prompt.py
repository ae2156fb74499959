"""One line of input in place of the status line: the live filter, the search in help. Its keys are those of the binding
table for `line`, and escape.
"""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.suggester import Suggester, SuggestionReady
from textual.widgets import Input, Static

from tui import bindings
from tui.lines.theme import to_ascii


class _Completion(Suggester):
    """Textual's way to ask for one completion."""

    def __init__(self, complete: Callable[[str], str | None]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._complete = complete

    async def get_suggestion(self, value: str) -> str | None:
        return self._complete(value)


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

    def __init__(
        self,
        name: str,
        text: str,
        hint: str,
        ascii_only: bool,
        complete: Callable[[str], str | None] | None = None,
    ) -> None:
        """`complete`: the text with its end completed, which stands there faintly until a key takes it."""
        super().__init__()
        self._label, self._complete = name, complete
        self.input = Input(
            text,
            placeholder=to_ascii(hint) if ascii_only else hint,
            suggester=_Completion(complete) if complete else None,
            compact=True,
        )
        self.input.cursor_blink = False

    def compose(self) -> ComposeResult:
        yield Static(f"{self._label}:")
        yield self.input

    def suggest(self) -> None:
        """Complete what stands there once more: there is more to complete it with."""
        if self._complete and (suggestion := self._complete(self.input.value)):
            self.input.post_message(SuggestionReady(self.input.value, suggestion))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(event.value))

    def on_key(self, event: events.Key) -> None:
        actions = {key: one.action for one in bindings.bindings_of("line") for key in one.keys}
        action = actions.get(event.key)
        if event.key == "escape":
            self.post_message(self.Changed("", done=True, cancelled=True))
        elif action == "take":
            self.do_take()
        elif action == "complete" and self.input.suggester:
            self.do_complete()
        elif event.key != "enter":  # Input's own key, which means nothing where another takes
            return
        event.stop()
        event.prevent_default()

    def do_take(self) -> None:
        self.post_message(self.Changed(self.input.value, done=True))

    def do_complete(self) -> None:
        self.input.cursor_position = len(self.input.value)
        self.input.action_cursor_right()  # takes what is suggested

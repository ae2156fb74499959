"""Letters on all that can be gone to: one of them is pressed, and the cursor is there."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.geometry import Size
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.host import Host
from tui.key_names import key_name
from tui.lines import theme
from tui.lines.text import Line, fit, line_width
from tui.screens.place import Place

LETTERS = "asdfghjklqwertyuiopzxcvbnmASDFGHJKLQWERTYUIOPZXCVBNM"  # those under the fingers first


class JumpScreen(ModalScreen[None], inherit_bindings=False):
    """Over the screen whose places they are. What is out of sight stands with its letter in the last line."""

    def __init__(self, host: Host, size: Size, places: Sequence[Place]) -> None:
        super().__init__()
        self.host = host
        self.first_size = size
        self.places = dict(zip(LETTERS, places, strict=False))

    def compose(self) -> ComposeResult:
        for letter, place in self.places.items():
            if place.at is not None:
                shown = Static(self._text([(letter, "letter")]))
                shown.styles.offset = place.at
                yield shown
        rest = self._out_of_sight()
        for at, line in enumerate(rest):
            shown = Static(self._text(fit(line, self.first_size.width)), classes="rest")
            shown.styles.offset = (0, self.first_size.height - len(rest) + at)
            yield shown

    def _out_of_sight(self) -> list[Line]:
        """As many lines as it takes, the last ones of the screen."""
        lines: list[Line] = [[(" jump to a letter, esc leaves ", "letter")]]
        for letter, place in self.places.items():
            entry: Line = [(f" {letter}", "key"), (f" {place.name} ", "text")]
            if place.at is None:
                if line_width(lines[-1]) + line_width(entry) > self.first_size.width:
                    lines.append([])
                lines[-1] += entry
        return lines

    def _text(self, line: Line) -> Text:
        color = not self.app.no_color
        return Text.assemble(
            *(
                (theme.to_ascii(text) if self.host.ascii_only else text, theme.style(name, color))
                for text, name in line
            )
        )

    def on_key(self, event: events.Key) -> None:
        event.stop()
        event.prevent_default()
        self._leave()
        if place := self.places.get(event.character or ""):
            self.app.call_later(place.go)  # once the screen below is on top again
        elif event.key != "escape":
            self.host.say(f"no letter {key_name(event.key)} was here")

    def on_mouse_down(self) -> None:
        self._leave()

    def on_resize(self, event: events.Resize) -> None:
        """Nothing stands any more where its letter is."""
        if event.size != self.first_size:
            self._leave()

    def _leave(self) -> None:
        if self.is_current:
            self.dismiss()

"""Which panes of the dashboard are shown: all of them or one, below the table or in its place."""

from __future__ import annotations

from typing import Any

from tui.lines.scroll import Scroll
from tui.lines.text import Line

PANES = ("training", "held-out", "general", "hardware", "flags", "log")


class ShownPanes:
    """`small`: the terminal has room for one pane at a time."""

    def __init__(self, pane: int = 0, large: int | None = None) -> None:
        self.pane = pane  # shown on a small terminal
        self.large = large  # the only pane shown on a large one
        self.whole = False  # a pane has the screen to itself, without the table
        self._scroll = Scroll()  # of the text in it; a log is read from its end

    @classmethod
    def of(cls, kept: object) -> ShownPanes:
        """As the session before left them; all of them where that is not known."""
        match kept:
            case {"pane": int(pane), "large": int() | None as large} if pane in range(len(PANES)) and (
                large is None or large in range(len(PANES))
            ):
                return cls(pane, large)
        return cls()

    def kept(self) -> dict[str, Any]:
        """What `of` makes the same of. A session begins with its table: a pane gets the whole screen by its key."""
        return {"pane": self.pane, "large": self.large}

    def visible(self, small: bool) -> tuple[int, ...]:
        if small or self.whole:
            return (self.pane,)
        return (self.large,) if self.large is not None else tuple(range(len(PANES)))

    def turn_whole(self) -> None:
        """Give a pane the screen to itself, or the table its place again."""
        self.whole, self._scroll = not self.whole, Scroll()
        if self.whole and self.large is not None:
            self.pane = self.large

    def reset(self) -> None:
        """The table and all panes."""
        self.whole, self.large = False, None

    def go_on(self, by: int, small: bool) -> None:
        """To the next pane; on a large terminal all of them come after the last."""
        self._scroll = Scroll()
        if small or self.whole:
            self.pane = (self.pane + by) % len(PANES)
        else:
            now = -1 if self.large is None else self.large
            following = now + by
            self.large = None if following in (-1, len(PANES)) else following % len(PANES)

    def choose(self, index: int, small: bool) -> None:
        """Show a pane; on a large terminal, where it is shown alone, all of them."""
        self._scroll = Scroll()
        if small or self.whole:
            self.pane = index
        else:
            self.large = None if self.large == index else index

    def in_view(self, lines: list[Line], height: int, *, from_end: bool = False) -> list[Line]:
        """What of a text is in view where its pane has the screen to itself."""
        return self._scroll.view(lines, height, from_end=from_end)

    def scroll(self, by: int) -> None:
        """Move what is in view of the text, down above 0."""
        self._scroll.move(-by if PANES[self.pane] == "log" else by)

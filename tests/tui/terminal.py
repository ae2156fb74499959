"""A small terminal: what a real one shows after everything that the app has written to it."""

from __future__ import annotations

import re
from collections.abc import Callable

from rich.cells import get_character_cell_size

# Where the cursor goes, any other control sequence, any other character.
_TOKENS = re.compile(r"\x1b\[(\d+);(\d+)H|\x1b\[[0-9;?]*[a-zA-Z]|(.)", re.DOTALL)


class Terminal:
    """Cells of text, without styles. `width(character)` is how many columns this terminal gives a character."""

    def __init__(
        self, columns: int, rows: int, width: Callable[[str], int] = get_character_cell_size
    ) -> None:
        self._cells = [[" "] * columns for _ in range(rows)]
        self._width = width
        self._row = self._column = 0

    def feed(self, written: str) -> None:
        for token in _TOKENS.finditer(written):
            row, column, character = token.groups()
            if row:
                self._row, self._column = int(row) - 1, int(column) - 1
            elif character == "\n":
                self._row, self._column = self._row + 1, 0
            elif character:
                self._put(character)

    def _put(self, character: str) -> None:
        cells, width = self._cells[self._row], self._width(character)
        if not width:  # it belongs to the character before
            at = max(0, self._column - 1)
            cells[at - (not cells[at])] += character
            return
        if self._column + width > len(cells):
            return
        for at in range(self._column, self._column + width):
            self._clear(cells, at)
        cells[self._column : self._column + width] = [character, *[""] * (width - 1)]
        self._column += width

    @staticmethod
    def _clear(cells: list[str], at: int) -> None:
        """Half a character that is written over takes the other half with it."""
        if not cells[at]:
            cells[at - 1] = " "
        elif at + 1 < len(cells) and not cells[at + 1]:
            cells[at + 1] = " "
        cells[at] = " "

    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self._cells]

"""A table as text that other programs take: Markdown, CSV, or each row whole."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from engine.basics.safe_text import csv_cell, lines, markdown, one_line
from tui.lines import format


@dataclass(frozen=True)
class Table:
    title: str
    names: tuple[str, ...]
    rows: Sequence[Sequence[object]]

    def markdown(self) -> str:
        """With a title; a line break of a cell is `<br>`."""
        width = range(len(self.names))
        cells = [[_markdown_cell(cell) for cell in row] for row in self.rows]
        body = [
            " | ".join(row)
            for row in ([markdown(name) for name in self.names], ["---" for _ in width], *cells)
        ]
        return "\n".join([f"**{markdown(self.title)}**", "", *(f"| {line} |" for line in body)]) + "\n"

    def csv(self) -> str:
        """Numbers with all their digits; an absent value is empty."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(map(csv_cell, self.names))
        for row in self.rows:
            writer.writerow(["" if cell is None else csv_cell(lines(str(cell))) for cell in row])
        return out.getvalue()

    def text(self) -> str:
        """Row by row, each cell whole under the name of its column; what is absent is left out."""
        return "\n\n".join(
            "\n".join(
                _block(name, cell) for name, cell in zip(self.names, row, strict=True) if cell is not None
            )
            for row in self.rows
        )


def _markdown_cell(cell: object) -> str:
    return "<br>".join(markdown(line) for line in lines(format.value(cell)).split("\n"))


def _block(name: str, cell: object) -> str:
    text = lines(format.value(cell))
    return f"{one_line(name)}:\n{text}" if "\n" in text else f"{one_line(name)}: {text}"

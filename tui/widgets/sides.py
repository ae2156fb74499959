"""Which runs stand side by side: in which order, which of them stay at the left, and which are in view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.basics.safe_text import one_line
from tui.lines import theme
from tui.lines.text import Line, distinct, left, squeezed, width_of
from tui.rows import Run


@dataclass(frozen=True)
class Column:
    """A run in view."""

    run: Run
    slot: int  # its colour and marker
    width: int
    chosen: bool  # the cursor is on it
    pinned: bool


@dataclass(frozen=True)
class InView:
    """The columns that fit, the reference first, and how many runs are left of and right of those that move."""

    columns: tuple[Column, ...]
    before: int = 0
    after: int = 0

    @property
    def reference(self) -> Run:
        return self.columns[0].run

    @property
    def hidden(self) -> str:
        """How many runs are out of view at the left and at the right: `« 2  3 »`."""
        sides = [f"« {self.before}" if self.before else "", f"{self.after} »" if self.after else ""]
        return " ".join(filter(None, sides))

    def head(self, name: int) -> Line:
        """The names of the runs; `name` columns before them say how many are out of view."""
        line: Line = [(left(self.hidden, name), "warn")]
        ends = [" pinned" if column.pinned else "" for column in self.columns]
        rooms = [column.width - 4 - len(end) for column, end in zip(self.columns, ends, strict=True)]
        numbers = [f"#{column.run.number} " for column in self.columns]
        names = [one_line(column.run.name) for column in self.columns]
        shortest = min((room - len(number) for room, number in zip(rooms, numbers, strict=True)), default=0)
        shown = distinct(dict.fromkeys(names), max(1, shortest))
        for column, end, room, number, whole in zip(self.columns, ends, rooms, numbers, names, strict=True):
            fitting = whole if width_of(number + whole) <= room else shown[whole]
            text = left(squeezed(f"{number}{fitting}", room), room)
            line += [
                ("▌" if column.chosen else " ", "accent"),
                (f"{theme.MARKERS[column.slot % len(theme.MARKERS)]} ", theme.slot_style(column.slot)),
                (text, "title" if column.chosen else "text"),
                (f"{end} ", "faint"),
            ]
        return line


@dataclass(frozen=True)
class Sides:
    """The runs as they were marked, the one that the others are measured against, and the cursor."""

    numbers: tuple[int, ...]
    reference: int
    chosen: int
    pinned: tuple[int, ...] = ()

    @classmethod
    def of(cls, numbers: tuple[int, ...]) -> Sides:
        return cls(numbers, numbers[0], numbers[min(1, len(numbers) - 1)])

    @property
    def order(self) -> tuple[int, ...]:
        """From left to right: the reference, what is pinned, the rest."""
        fixed = [self.reference, *(number for number in self.pinned if number != self.reference)]
        return (*fixed, *(number for number in self.numbers if number not in fixed))

    @property
    def others(self) -> tuple[int, ...]:
        return self.order[1:]

    def moved(self, by: int) -> Sides:
        order = self.order
        at = max(0, min(len(order) - 1, order.index(self.chosen) + by))
        return replace(self, chosen=order[at])

    def measured_against_chosen(self) -> Sides:
        return replace(self, reference=self.chosen)

    def pin(self) -> Sides:
        """Pin the chosen run, or let it go."""
        if self.chosen in self.pinned:
            return replace(self, pinned=tuple(number for number in self.pinned if number != self.chosen))
        return replace(self, pinned=(*self.pinned, self.chosen))

    def in_view(self, runs: Sequence[Run], room: int, first: int, least: int, most: int = 10**6) -> InView:
        """The columns for `room`: the reference's has `first`, the others `least` to `most`. One that moves is always
        among them, and the chosen one: pinned ones that take its place move like the rest.
        """
        by_number = {run.number: run for run in runs}
        order = [number for number in self.order if number in by_number]
        count = min(len(order), max(2, 1 + (room - first) // least))
        fixed = len(order)
        if count < len(order):
            fixed = min(count - 1, 1 + sum(number in self.pinned for number in order[1:]))
        rest, size = order[fixed:], count - fixed
        chosen = rest.index(self.chosen) if self.chosen in rest else 0
        start = max(0, min(chosen, len(rest) - size))
        shown = [*order[:fixed], *rest[start : start + size]]
        width = min(most, (room - first) // max(1, len(shown) - 1))
        columns = tuple(
            Column(
                by_number[number],
                self.numbers.index(number),
                width if at else first,
                number == self.chosen,
                number in self.pinned,
            )
            for at, number in enumerate(shown)
        )
        return InView(columns, start, max(0, len(rest) - size - start))

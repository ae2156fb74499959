"""What is written with fewer bytes looks the same on a terminal, by a terminal emulator that knows nothing of us."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pyte
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate
from textual.strip import Strip

from tui.widgets.spans import SpansUpdate
from tui.widgets.terse import terse

STYLES = [
    Style.parse(words)
    for words in ("", "bold", "#7aa2f7",
                  "#7aa2f7 on #10131a", "bold #eef1f8 on #10131a", "reverse", "red", "on bright_blue",
                  "underline #e6c384", "color(117) on color(23)", "dim italic", "default on #232a3b")
]  # fmt: skip
COLUMNS, ROWS = 40, 8
NARROW = ["a", "loss", "0.1234", "━━━", "⣿⡇", "  "]  # no halves of characters where spans cut lines
WORDS = [*NARROW, "日本"]


def console() -> Console:
    return Console(force_terminal=True, color_system="truecolor", legacy_windows=False)


def cells(written: str) -> list[list[Any]]:
    """Every cell of a screen after what was written: its character, colours and attributes."""
    screen = pyte.Screen(COLUMNS, ROWS)
    pyte.Stream(screen).feed(written)
    return [[screen.buffer[row][column] for column in range(COLUMNS)] for row in range(ROWS)]


def some_line(rng: random.Random, words: list[str] = WORDS) -> Strip:
    segments = [Segment(rng.choice(words), rng.choice(STYLES)) for _ in range(COLUMNS)]
    return Strip(segments).crop(0, COLUMNS)


def test_a_screen_full_of_styles_looks_the_same() -> None:
    for seed in range(40):
        rng = random.Random(seed)
        whole = "".join(f"\x1b[{row + 1};1H{some_line(rng).render(console())}" for row in range(ROWS))
        assert cells(terse(whole)) == cells(whole)
        assert len(terse(whole)) <= len(whole)


def test_what_erases_has_the_style_that_was_meant() -> None:
    written = "\x1b[44mone\x1b[0m\x1b[2;1H\x1b[41mtwo\x1b[K\x1b[0m\x1b[3;1H\x1b[Kthree"
    assert cells(terse(written)) == cells(written)


def test_a_style_that_holds_already_is_not_said_again() -> None:
    blue = Style.parse("#7aa2f7 on #10131a")
    written = "".join(f"\x1b[{row};1H{Strip([Segment('ab', blue)]).render(console())}" for row in (1, 2, 3))
    assert terse(written).count("m") == 2, "set once, reset once"
    assert terse("plain") == "plain"


def test_changed_spans_look_the_same_in_whatever_order_they_are_written() -> None:
    for seed in range(40):
        rng = random.Random(seed)
        before, after = ([some_line(rng, words=NARROW) for _ in range(ROWS)] for _ in range(2))
        start = "".join(f"\x1b[{row + 1};1H{line.render(console())}" for row, line in enumerate(before))
        spans = [
            (row, *sorted(ends))
            for row in range(ROWS)
            for ends in pairwise(sorted(rng.sample(range(COLUMNS + 1), rng.choice((2, 4)))))
        ]
        middle = rng.randrange(1, COLUMNS)
        chops = [{0: line.crop(0, middle), middle: line.crop(middle, COLUMNS)} for line in after]
        update = ChopsUpdate(chops, spans, [[middle, COLUMNS] for _ in chops])
        each = "".join(
            f"\x1b[{row + 1};{first + 1}H{after[row].crop(first, last).render(console())}"
            for row, first, last in spans
        )
        written = SpansUpdate.of(update).render_segments(console())
        assert cells(start + written) == cells(start + each)

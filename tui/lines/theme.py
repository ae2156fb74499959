"""How things look: style names for lines, glyphs for states, stylesheet; the colours are in palettes.py."""

from __future__ import annotations

import locale
import os
from enum import Enum
from functools import cache, lru_cache
from typing import NamedTuple

from rich.style import Style

from store.states import HELD, RunState
from tui.lines.palettes import DARK, PALETTES, Palette
from tui.lines.text import graphemes

SERIES = 8  # colours of curves
MARKERS = "●■▲◆○□△◇"  # of their last points, and of marked runs
ASCII_MARKERS = "*+ox#@%&"

# Without colour: weight and brightness alone.
_PLAIN_STYLES = {
    "bright": "bold",
    "title": "bold",
    "brand": "bold",
    "key": "bold",
    "warn": "bold",
    "bad": "bold underline",
    "dim": "",
    "faint": "dim",
    "grid": "dim",
    "rule": "dim",
    "bar-rest": "dim",
    "cursor": "bold",
    "cell": "reverse",
    "match": "reverse",
    "differs": "bold underline",
    "letter": "reverse bold",
    **{f"s{slot}-faint": "dim" for slot in range(SERIES)},
}


@cache
def _styles(palette: Palette) -> dict[str, str]:
    series = palette.series
    return {
        "": palette.text,
        "text": palette.text,
        "bright": f"{palette.bright} bold",
        "dim": palette.dim,
        "faint": palette.faint,
        "axis": palette.dim,
        "grid": palette.grid,
        "rule": palette.border,
        "title": f"{palette.bright} bold",
        "accent": palette.accent,
        "key": f"{palette.accent} bold",
        "good": palette.good,
        "warn": palette.warn,
        "bad": palette.bad,
        "brand": f"{palette.accent} bold",
        "bar": palette.accent,
        "bar-rest": palette.border,
        "cursor": f"{palette.bright} on {palette.cursor}",
        "cell": f"{palette.background} on {palette.accent}",
        "match": f"{palette.background} on {palette.warn}",
        "differs": f"{palette.warn} underline",
        "letter": f"{palette.background} on {palette.warn} bold",
        **{f"s{slot}": color for slot, color in enumerate(series)},
        **{f"s{slot}-faint": palette.faded(color) for slot, color in enumerate(series)},
    }


_now = DARK


def use(name: str) -> None:
    """Paint with the colours of this theme from now on; a process has one screen."""
    global _now
    _now = PALETTES[name]
    style.cache_clear()


def in_use() -> str:
    """The theme that is painted with."""
    return _now.name


def css_variables() -> dict[str, str]:
    """The colours that the stylesheet names."""
    return {f"ft-{field}": getattr(_now, field) for field in _IN_CSS}


@lru_cache(512)
def style(name: str, color: bool = True, cursor: bool = False) -> Style:
    """The Rich style of a name; on the cursor's row with the row's background."""
    if not color:
        plain = Style.parse(_PLAIN_STYLES.get(name, ""))
        return plain + Style(bold=True) if cursor else plain
    background = Style(bgcolor=_now.cursor if cursor else _now.background)
    return background + Style.parse(_styles(_now).get(name, _now.text))


class Glyphs(Enum):
    """What the dots of curves are drawn with; the value is (columns, rows) of dots in a cell."""

    BRAILLE = (2, 4)
    BLOCK = (1, 2)
    ASCII = (1, 1)


def slot_style(slot: int) -> str:
    return f"s{slot % SERIES}"


class StateLook(NamedTuple):
    glyph: str
    style: str


STATES: dict[str, StateLook] = {
    RunState.QUEUED: StateLook("○", "dim"),
    RunState.STARTING: StateLook("◌", "accent"),
    RunState.RUNNING: StateLook("●", "accent"),
    RunState.PAUSED: StateLook("‖", "warn"),
    RunState.INTERRUPTED: StateLook("↻", "warn"),
    RunState.FINISHED: StateLook("✓", "good"),
    RunState.FAILED: StateLook("✗", "bad"),
    RunState.CANCELLED: StateLook("⊘", "faint"),
}


def state_look(state: str) -> StateLook:
    return StateLook("◎", "warn") if state == HELD else STATES.get(state, StateLook("?", "dim"))


# Every glyph that the screens use, for terminals without Unicode.
_ASCII = str.maketrans(
    {
        "●": "*", "■": "+", "▲": "o", "◆": "x", "○": "o", "□": "@", "△": "%", "◇": "&", "◌": "~", "◎": "@",
        "✓": "+", "✗": "x", "⊘": "-", "↻": "!", "‖": "=", "⚑": "!", "…": "~", "▌": ">", "▏": "|",
        "│": "|", "┤": "+", "┬": "+", "╰": "+", "─": "-", "┈": ".", "┊": "|", "━": "=", "╸": "-",
        "·": "-", "•": "*", "→": ">", "↑": "^", "↓": "v", "▴": "^", "▾": "v", "▸": ">", "±": "~", "−": "-",
        "▁": "_", "▂": ".", "▃": "-", "▄": "~", "▅": "=", "▆": "+", "▇": "*", "█": "#", "╍": ":",
        "░": ".", "≤": "<", "×": "x", "Δ": "d", "⏎": "/", "°": " ", "–": "-", "▕": "|", "«": "<", "»": ">",
    }
)  # fmt: skip


def to_ascii(text: str) -> str:
    """The text in ASCII, in as many columns as before: a glyph by what looks like it, any other by question marks."""
    text = text.translate(_ASCII)
    if text.isascii():
        return text
    return "".join(
        character if character.isascii() else "?" * columns for character, columns in graphemes(text)
    )


def terminal_has_unicode() -> bool:
    """Whether glyphs beyond ASCII can be trusted: the locale says UTF-8 and nobody said no."""
    if os.environ.get("NO_UNICODE") or os.environ.get("TERM") in ("linux", "dumb", "vt100", "vt220"):
        return False
    return "utf" in locale.getpreferredencoding(False).lower()


_IN_CSS = ("background", "surface", "border", "faint", "dim", "text", "bright", "accent")
CSS = """
Screen { background: $ft-background; color: $ft-text; layers: base over; overflow: hidden; }
Panel { background: $ft-background; color: $ft-text; width: 1fr; height: 1fr; }
.framed {
    border: round $ft-border; border-title-color: $ft-dim; border-subtitle-color: $ft-faint;
    border-title-style: none; padding: 0 1;
}
.framed.-active { border: round $ft-faint; border-title-color: $ft-bright; border-title-style: bold; }
.-small .framed { border: none; border-top: solid $ft-border; padding: 0; }
.-ascii .framed { border: ascii $ft-border; }
.-ascii.-small .framed { border: none; border-top: ascii $ft-border; padding: 0; }
.-small .pane, .-ascii.-small .pane { border: none; }
.line { height: 1; }
.hidden { display: none; }
Horizontal { height: auto; }
Input {
    border: none; height: 1; padding: 0; background: $ft-surface; color: $ft-bright;
}
Input:focus { border: none; background: $ft-surface; }
Input>.input--cursor { background: $ft-accent; color: $ft-background; text-style: none; }
Input>.input--placeholder { color: $ft-faint; }
TextArea { border: none; padding: 0; background: $ft-background; color: $ft-bright; }
TextArea:focus { border: none; }
TextArea .text-area--cursor { background: $ft-accent; color: $ft-background; }
TextArea .text-area--cursor-line { background: $ft-background; }
CommandPalette, JumpScreen { background: $ft-background 60%; }
JumpScreen Static { position: absolute; height: 1; width: auto; }
"""

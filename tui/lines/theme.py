"""How things look: one palette, style names for lines, glyphs for states, stylesheet."""

from __future__ import annotations

import locale
import os
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from rich.style import Style

from store.states import RunState
from tui.lines.text import graphemes

BACKGROUND = "#10131a"
SURFACE = "#171b25"
CURSOR = "#232a3b"
BORDER = "#2b3345"
GRID = "#232a38"
FAINT = "#566079"
DIM = "#8590a8"
TEXT = "#c5cddd"
BRIGHT = "#eef1f8"
BLUE, ORANGE, TEAL, MAGENTA = "#7aa2f7", "#ff9e64", "#5fd7c0", "#c099ff"
YELLOW, PINK, SKY, GREEN = "#e6c384", "#ff7a93", "#86d5ff", "#a5d66f"
RED = "#ff6b7f"

# Neighbours differ in lightness as well as in hue, for colour-blind eyes.
SERIES = (BLUE, ORANGE, TEAL, MAGENTA, YELLOW, PINK, SKY, GREEN)


def _mix(color: str, share: float) -> str:
    """A colour faded into the background: `share` of it is left."""
    pairs = [(int(color[at : at + 2], 16), int(BACKGROUND[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(front * share + back * (1 - share)):02x}" for front, back in pairs)


_STYLES = {
    "": TEXT,
    "text": TEXT,
    "bright": f"{BRIGHT} bold",
    "dim": DIM,
    "faint": FAINT,
    "axis": DIM,
    "grid": GRID,
    "rule": BORDER,
    "title": f"{BRIGHT} bold",
    "accent": BLUE,
    "key": f"{BLUE} bold",
    "good": GREEN,
    "warn": YELLOW,
    "bad": RED,
    "brand": f"{BLUE} bold",
    "bar": BLUE,
    "bar-rest": BORDER,
    "cursor": f"{BRIGHT} on {CURSOR}",
    "cell": f"{BACKGROUND} on {BLUE}",
    "match": f"{BACKGROUND} on {YELLOW}",
    "differs": f"{YELLOW} underline",
    **{f"s{slot}": color for slot, color in enumerate(SERIES)},
    **{f"s{slot}-faint": _mix(color, 0.42) for slot, color in enumerate(SERIES)},
}

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
    **{f"s{slot}-faint": "dim" for slot in range(len(SERIES))},
}


@lru_cache(512)
def style(name: str, color: bool = True, cursor: bool = False) -> Style:
    """The Rich style of a name; on the cursor's row with the row's background."""
    if not color:
        plain = Style.parse(_PLAIN_STYLES.get(name, ""))
        return plain + Style(bold=True) if cursor else plain
    background = Style(bgcolor=CURSOR if cursor else BACKGROUND)
    return background + Style.parse(_STYLES.get(name, TEXT))


class Glyphs(Enum):
    """What the dots of curves are drawn with; the value is (columns, rows) of dots in a cell."""

    BRAILLE = (2, 4)
    BLOCK = (1, 2)
    ASCII = (1, 1)


def slot_style(slot: int) -> str:
    return f"s{slot % len(SERIES)}"


@dataclass(frozen=True)
class StateLook:
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
    return STATES.get(state, StateLook("?", "dim"))


# Every glyph that the screens use, for terminals without Unicode.
_ASCII = str.maketrans(
    {
        "●": "*", "■": "+", "▲": "o", "◆": "x", "○": "o", "□": "@", "△": "%", "◇": "&", "◌": "~",
        "✓": "+", "✗": "x", "⊘": "-", "↻": "!", "‖": "=", "⚑": "!", "…": "~", "▌": ">", "▏": "|",
        "│": "|", "┤": "+", "┬": "+", "╰": "+", "─": "-", "┈": ".", "┊": "|", "━": "=", "╸": "-",
        "·": "-", "•": "*", "→": ">", "↑": "^", "↓": "v", "▴": "^", "▾": "v", "▸": ">", "±": "~", "−": "-",
        "▁": "_", "▂": ".", "▃": "-", "▄": "~", "▅": "=", "▆": "+", "▇": "*", "█": "#", "╍": ":",
        "░": ".", "≤": "<", "×": "x", "Δ": "d", "°": " ", "–": "-", "▕": "|", "«": "<", "»": ">",
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


CSS = f"""
Screen {{ background: {BACKGROUND}; color: {TEXT}; layers: base over; overflow: hidden; }}
Panel {{ background: {BACKGROUND}; color: {TEXT}; width: 1fr; height: 1fr; }}
.framed {{
    border: round {BORDER}; border-title-color: {DIM}; border-subtitle-color: {FAINT};
    border-title-style: none; padding: 0 1;
}}
.framed.-active {{ border: round {FAINT}; border-title-color: {BRIGHT}; border-title-style: bold; }}
.-small .framed {{ border: none; border-top: solid {BORDER}; padding: 0; }}
.-ascii .framed {{ border: ascii {BORDER}; }}
.-ascii.-small .framed {{ border: none; padding: 0; }}
.-small .pane {{ border: none; }}
.line {{ height: 1; }}
.hidden {{ display: none; }}
Horizontal {{ height: auto; }}
Input {{
    border: none; height: 1; padding: 0; background: {SURFACE}; color: {BRIGHT};
}}
Input:focus {{ border: none; background: {SURFACE}; }}
Input>.input--cursor {{ background: {BLUE}; color: {BACKGROUND}; text-style: none; }}
Input>.input--placeholder {{ color: {FAINT}; }}
TextArea {{ border: none; padding: 0; background: {BACKGROUND}; color: {BRIGHT}; }}
TextArea:focus {{ border: none; }}
TextArea .text-area--cursor {{ background: {BLUE}; color: {BACKGROUND}; }}
TextArea .text-area--cursor-line {{ background: {BACKGROUND}; }}
CommandPalette {{ background: {BACKGROUND} 60%; }}
"""

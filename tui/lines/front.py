"""The front of a scaled run in words and numbers: the points that `engine.export` prints for each factor."""

from __future__ import annotations

from typing import Any

from engine.basics.safe_text import one_line
from tui.lines.format import delta, loss
from tui.lines.text import Line, line_width

Point = dict[str, Any]


def sentence(point: Point) -> str:
    """What was found at a factor."""
    general = f", general text {delta(point['general']['value'])}" if point["general"] else ""
    other = " on the other half" if point["half"] == "confirm" else ""
    return f"factor {point['factor']:g}{other}: held-out {delta(point['change']['value'])}{general}"


def rows(found: dict[str, Any], half: str) -> list[dict[str, str]]:
    """The rows of a table, a factor each, lowest first; the chosen one is marked."""
    points = [point for point in found["points"] if point["half"] == half]
    return [_row(point, chosen=point["factor"] == found["factor"]) for point in points]


def table(rows: list[dict[str, str]]) -> list[Line]:
    """The rows as lines, numbers to the right."""
    names = list(rows[0])
    cells = [names, *([row[name] for name in names] for row in rows)]
    shown = [[one_line(text) for text in line] for line in cells]
    widths = [max(line_width([(line[at], "")]) for line in shown) for at in range(len(names))]
    styles = ["dim", *("good" if row[""] else "text" for row in rows)]
    return [
        [("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)), style)]
        for line, style in zip(shown, styles, strict=True)
    ]


def row_counts(found: dict[str, Any], half: str) -> str:
    """`150 held-out and 75 general rows`."""
    return (
        " and ".join(
            f"{counts[half]} {'held-out' if name == 'heldout' else name}"
            for name, counts in found["rows"].items()
        )
        + " rows"
    )


def _row(point: Point, *, chosen: bool) -> dict[str, str]:
    slices = {name: _change(part) for name, part in point["slices"].items()}
    general = {"general": _change(point["general"])} if point["general"] else {}
    return {
        "": "→" if chosen else "",
        "factor": f"{point['factor']:g}",
        "loss": loss(point["heldout"]),
        "held-out": _change(point["change"]),
        **general,
        **slices,
    }


def _change(part: dict[str, Any]) -> str:
    if part["lo"] is None or part["hi"] is None:
        return delta(part["value"])
    return f"{delta(part['value'])} ±{(part['hi'] - part['lo']) / 2:.3f}"

"""The processes of the machine as a table: of which run or user, on which GPU, and what each has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.basics.safe_text import one_line
from tui.bindings import key_of
from tui.lines.text import Line, cut, fit, left, right
from tui.rows import Row

HIDDEN = "not to be seen from here: gone, or outside this container"
# Columns and how wide they are; below 0: aligned right. What others have of the GPU's columns is nothing.
COLUMNS = {"run": 6, "pid": -8, "user": 10, "gpu": 5, "gpu mem": -8, "cpu": -6, "ram": -8}
OF_GPUS = ("gpu", "gpu mem")
NARROW = 72  # columns; with fewer, the command matters more than the machine's memory


def lines(rows: Sequence[Row], gpus: Mapping[str, Row], busy: bool, width: int) -> list[Line]:
    """A heading and a line each, ours first, then GPU by GPU what has most; last, whose processes are not known."""
    columns = {name: size for name, size in COLUMNS.items() if gpus or name not in OF_GPUS}
    if gpus and width < NARROW:
        del columns["ram"]
    order = list(gpus)

    def place(row: Row) -> tuple[bool, int, float]:
        at = order.index(row["gpu"]) if row["gpu"] in order else 0
        return row["run"] is None, at, -(row["gpu_gb"] or 0.0)

    rows = sorted(rows, key=place)
    shown = [_row(row, columns, busy, width) for row in rows]
    troubles: list[Line] = [
        [(cut(f"{gpu}: its processes are not known: {one_line(row['unknown'])}", width), "warn")]
        for gpu, row in gpus.items()
        if row.get("unknown")
    ]
    if not shown:
        return troubles or ([[("no process is on a GPU", "dim")]] if gpus else [])
    heading = _line({**{name: name for name in columns}, "command": "command"}, columns, "faint", width)
    return [heading, *shown, *troubles]


def within(lines: list[Line], height: int) -> list[Line]:
    """The lines, or as many as there is room for and how many are missing."""
    if len(lines) <= height:
        return lines
    key = key_of("whole", "dashboard")
    if height < 3:
        return [[(f"{len(lines) - 1} processes: {key} shows them", "faint")]][:height]
    kept = lines[: height - 1]
    return [*kept, [(f"… {len(lines) - len(kept)} more: {key} shows all", "faint")]]


def _row(row: Row, columns: Mapping[str, int], busy: bool, width: int) -> Line:
    ours = row["run"] is not None
    texts = {
        "run": f"#{row['run']}" if ours else "",
        "pid": str(row["pid"]),
        "user": one_line(row["user"] or "?"),
        "gpu": row["gpu"] or "",
        "gpu mem": _gb(row["gpu_gb"], busy),
        "cpu": _percent(row["cpu_percent"], busy),
        "ram": _gb(row["ram_gb"], busy),
        "command": _short(row["command"]),
    }
    return _line(texts, columns, "text" if ours else "dim", width)


def _line(texts: Mapping[str, str], columns: Mapping[str, int], style: str, width: int) -> Line:
    shown: Line = []
    for name, size in columns.items():
        text = right(texts[name], -size) if size < 0 else left(texts[name], size - 1)
        mark = "accent" if name == "run" and style == "text" else style
        shown.append((text + " ", mark))
    return fit([*shown, (" " + texts["command"], style)], width)


def _gb(size: float | None, busy: bool) -> str:
    return "?" if size is None else f"{size:.{1 if busy or size < 10 else 0}f} GB"


def _percent(load: float | None, busy: bool) -> str:
    """Of one core; coarse while nothing of ours goes on, for a screen that nobody looks at sends nothing."""
    if load is None:
        return ""
    return f"{load:.0f}%" if busy else f"{10 * round(load / 10)}%"


def _short(command: str | None) -> str:
    """The command without the folders of its program, which say the least and come first."""
    if command is None:
        return HIDDEN
    program, _, rest = one_line(command).partition(" ")
    return f"{program.rpartition('/')[2] or program} {rest}".rstrip()

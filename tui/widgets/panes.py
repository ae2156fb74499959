"""Hardware, flags and log as lines: pure functions of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.basics.safe_text import one_line
from engine.flags import words
from engine.recipe.kinds import COMMAND
from store.states import RunState
from tui.lines.text import Line, cut, fit, folded, left, line_width, right, spread, wrap
from tui.rows import Row, Run
from tui.widgets.run_table import bar

# ---- hardware ------------------------------------------------------------------------------------


def hardware_values(rows: Sequence[Row]) -> tuple[dict[str, float], dict[str, str]]:
    """Last value of every key, and the name of every device."""
    values = {row["key"]: row["value"] for row in rows if row.get("value") is not None}
    labels = {row["key"].split("/")[0]: row["label"] for row in rows if row.get("label")}
    return values, labels


def gpus(values: Mapping[str, float]) -> list[str]:
    return sorted({key.split("/")[0] for key in values if key.startswith("gpu")})


def hardware(rows: Sequence[Row], busy: bool, width: int, height: int) -> list[Line]:
    """A meter for each GPU's load and memory; CPU, memory and disk where there is room or no GPU."""
    values, labels = hardware_values(rows)
    if not values:
        return [[("no samples of the hardware yet", "dim")]]
    lines: list[Line] = []
    for gpu in gpus(values):
        lines += _gpu(gpu, labels.get(gpu, gpu), values, busy, width)
    machine = _machine(values, busy, width)
    if lines and height < len(lines) + len(machine) + 1:
        return lines
    return [*lines, *([[]] if lines else []), *machine]


def hardware_line(rows: Sequence[Row], busy: bool) -> Line:
    """All of it in one line, for small terminals."""
    values, _ = hardware_values(rows)
    parts: list[str] = []
    for gpu in gpus(values):
        load = f" {_percent(values[f'{gpu}/util'], busy)[1]}" if f"{gpu}/util" in values else ""
        memory = _used_of(values, f"{gpu}/memory_used_gb", f"{gpu}/memory_total_gb", busy)
        parts.append(f"{gpu}{load} {memory} GB")
    if "cpu/percent" in values:
        parts.append(f"cpu {_percent(values['cpu/percent'], busy)[1]}")
    if "ram/total_gb" in values:
        parts.append(f"ram {_used_of(values, 'ram/used_gb', 'ram/total_gb', busy)} GB")
    if "disk/free_gb" in values:
        parts.append(f"disk {values['disk/free_gb']:.0f} GB free")
    return [(" · ".join(parts), "dim")]


def _used_of(values: Mapping[str, float], used: str, total: str, busy: bool) -> str:
    return f"{values.get(used, 0):.{1 if busy else 0}f}/{values.get(total, 0):.0f}"


def _percent(value: float, busy: bool) -> tuple[float, str]:
    """A load as a share and in words. While no run of ours goes on it is coarse, so that a screen that nobody looks at
    sends nothing; but others may be at work, and then it is not called idle.
    """
    if busy:
        return value / 100, f"{value:.0f}%"
    coarse = 10 * round(value / 10)
    return coarse / 100, f"about {coarse}%" if coarse else "idle"


def _gpu(gpu: str, label: str, values: Mapping[str, float], busy: bool, width: int) -> list[Line]:
    power, heat = values.get(f"{gpu}/power_w"), values.get(f"{gpu}/temp_c")
    cap = values.get(f"{gpu}/power_cap_w")
    watts = "" if power is None else f"{power:.0f} W" if cap is None else f"{power:.0f}/{cap:.0f} W"
    facts = [watts, f"{heat:.0f} °C" if heat is not None else ""]
    head = spread([(one_line(label), "text")], [(" · ".join(filter(None, facts)), "dim")], width)
    total = values.get(f"{gpu}/memory_total_gb") or 0.0
    used = values.get(f"{gpu}/memory_used_gb", 0.0)
    util = values.get(f"{gpu}/util")
    lines = [head]
    if util is not None:
        lines.append(_meter("load", *_percent(util, busy), width))
    if total:
        words = _used_of(values, f"{gpu}/memory_used_gb", f"{gpu}/memory_total_gb", busy)
        lines.append(_meter("memory", used / total, f"{words} GB", width))
    return lines


def _machine(values: Mapping[str, float], busy: bool, width: int) -> list[Line]:
    lines: list[Line] = []
    if "cpu/percent" in values:
        lines.append(_meter("CPU", *_percent(values["cpu/percent"], busy), width))
    if total := values.get("ram/total_gb"):
        used = values.get("ram/used_gb", 0.0)
        words = _used_of(values, "ram/used_gb", "ram/total_gb", busy)
        lines.append(_meter("memory", (used if busy else round(used)) / total, f"{words} GB", width))
    if total := values.get("disk/total_gb"):
        free = values.get("disk/free_gb", 0.0)
        lines.append(_meter("disk", 1 - free / total, f"{free:.0f} GB free", width))
    return lines


def _meter(name: str, share: float, text: str, width: int) -> Line:
    style = "bad" if share > 0.95 else "warn" if share > 0.85 else "bar"
    room = max(4, width - 8 - 15)
    return [(left(name, 8), "dim"), *bar(share, room, style), (right(text, 15), "text")]


# ---- flags ---------------------------------------------------------------------------------------

_LEVEL_STYLE = {"critical": "bad", "warn": "warn", "watch": "accent", "info": "accent"}
_LABEL = 10  # columns of the names of facts


def flags(rows: Sequence[Row], worst: Sequence[Row], run: Run | None, width: int) -> list[Line]:
    """Each flag with its evidence: what, since when, how much with interval, on how many, the examples hit hardest
    (rows of the named query `worst`), what to do.
    """
    if run is None:
        return [[("no run selected", "dim")]]
    if not rows:
        return [[(f"#{run.number} has no flags", "dim")], *_no_flags_yet(run, width)]
    texts = {row["example"]: row["prompt"] or row["target"] or row["example"] for row in worst}
    lines: list[Line] = []
    for row in words.newest(rows):
        lines += [*_flag(row, texts, width), []]
    if run.method == COMMAND:
        return lines[:-1]
    makes = "; f makes a recipe of the first things to do" if run.flags else ""
    return [*lines, [(f"X shows the examples{makes}", "faint")]]


def _no_flags_yet(run: Run, width: int) -> list[Line]:
    if run.state in (RunState.QUEUED, RunState.STARTING):
        return []
    text = "watched: overfitting, forgetting, leaks, instability, NaN, a run that stands still, answers that never end"
    if run.method == COMMAND:
        text = "watched in its curves: a loss that is no number, jumps, a held-out loss that rises"
    return [[(line, "faint")] for line in wrap(text, width)]


def _flag(row: Mapping[str, Any], texts: Mapping[str, str], width: int) -> list[Line]:
    style = "dim" if words.is_withdrawn(row) else _LEVEL_STYLE.get(row["level"], "warn")
    head: Line = [(f"⚑ {row['flag']}", style), (f" {words.level(row)}", style)]
    head += [(f"  {words.when(row)}", "text"), (f" · {one_line(words.where(row))}", "dim")]
    lines = [fit(head, width)]
    for name, text in words.evidence(row):
        lines += _fact(name, text, "text", width)
    lines += [[(f"  {line}", "dim")] for line in wrap(one_line(row.get("message") or ""), width - 2)]
    for sentence in words.advice(row):
        wrapped = wrap(one_line(sentence), width - 4)
        lines += [[("  → " if at == 0 else "    ", style), (line, "text")] for at, line in enumerate(wrapped)]
    for at, (change, text) in enumerate(words.worst(row, texts)):
        shown: Line = [(left("  worst" if at == 0 else "", _LABEL + 2), "faint"), (f"{change}  ", "text")]
        lines.append([*shown, (cut(one_line(text), width - line_width(shown)), "dim")])
    return lines


def _fact(name: str, text: str, style: str, width: int) -> list[Line]:
    wrapped = wrap(one_line(text), max(10, width - _LABEL - 2))
    return [
        [(left(f"  {name}" if at == 0 else "", _LABEL + 2), "faint"), (line, style)]
        for at, line in enumerate(wrapped)
    ]


# ---- log -----------------------------------------------------------------------------------------


def log(rows: Sequence[Row], run: Run | None, width: int, height: int, *, whole: bool = False) -> list[Line]:
    """The end of a run's output, a line each; `whole`: long lines are wrapped, not cut."""
    if not rows:
        return [[(f"#{run.number} has printed nothing yet" if run else "no run selected", "dim")]]
    if whole:
        return [
            [(piece, _log_style(row["line"]))]
            for row in rows
            for piece in folded(one_line(row["line"]), width)
        ]
    return [[(cut(one_line(row["line"]), width), _log_style(row["line"]))] for row in rows[-height:]]


def _log_style(line: str) -> str:
    head = line[:200].lower()
    if "error" in head or "traceback" in head:
        return "bad"
    return "warn" if "warn" in head else "dim"

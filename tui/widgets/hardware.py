"""The machine as lines: load and memory of every GPU and of the rest, with what is ours told apart, power against its
cap, temperature, the last minutes, and the processes. Pure functions of rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan

from engine.basics.safe_text import one_line
from tui.bindings import key_of
from tui.lines.sparkline import LEVELS, sparkline
from tui.lines.text import Line, cut, fit, left, right, spread
from tui.rows import Row
from tui.widgets import processes
from tui.widgets.hardware_asked import STEP_S, STEPS
from tui.widgets.run_table import bar

BRIDGED = 2  # steps without a sample that are taken to be as the one before: a sample may come a little late
MINUTE = 60 // STEP_S

# By how much the values of an idle machine differ from one look to the next, by the end of their key.
NOISE = {"percent": 5.0, "util": 5.0, "_gb": 1.0, "_w": 10.0, "_c": 3.0}
NAME, WIDE_TEXT, TEXT = 8, 24, 15  # columns of a meter
LEAST_PROCESSES = 3  # lines that meters give way to


@dataclass(frozen=True)
class Hardware:
    """What is known of the machine. `busy`: a run of ours goes on or waits. While none does, values are shown coarsely,
    so that a screen that nobody looks at sends nothing.
    """

    values: Mapping[str, float]
    labels: Mapping[str, str]
    busy: bool
    history: Mapping[str, Sequence[float]] = field(
        default_factory=dict
    )  # from the oldest on, in the values' units
    gpus: Mapping[str, Row] = field(default_factory=dict)  # what the daemon says of each
    processes: Sequence[Row] = ()
    problem: str = ""  # why there are no new samples, or no processes

    @classmethod
    def of(cls, latest: Sequence[Row], history: Sequence[Row], machine: Row, *, busy: bool) -> Hardware:
        values, labels = latest_values(latest)
        gpus = machine.get("gpus") or {}
        labels = {**{gpu: row["label"] for gpu, row in gpus.items()}, **labels}
        listed = machine.get("processes") or ()
        return cls(values, labels, busy, series(history), gpus, listed, machine.get("problem") or "")

    @property
    def gpu_names(self) -> list[str]:
        named = {key.split("/")[0] for key in self.values if key.startswith("gpu")}
        return sorted(named | self.gpus.keys(), key=lambda name: (len(name), name))

    def lost(self, gpu: str) -> str:
        return str(self.gpus.get(gpu, {}).get("lost") or "")

    def runs(self, gpu: str) -> str:
        return " ".join(f"#{run}" for run in self.gpus.get(gpu, {}).get("runs", ()))

    def own_memory(self, gpu: str) -> float | None:
        """The GB that our runs have on a GPU; None where that cannot be known."""
        if gpu not in self.gpus or self.gpus[gpu].get("unknown"):
            return None
        here = [row for row in self.processes if row["gpu"] == gpu]
        own = [row["gpu_gb"] for row in here if row["run"] is not None]
        hidden = any(row["command"] is None for row in here)  # it may be ours
        return None if None in own or (hidden and not own) else sum(own)

    def own_ram(self) -> float:
        own = {row["pid"]: row["ram_gb"] or 0.0 for row in self.processes if row["run"] is not None}
        return float(sum(own.values()))

    def shares(self, key: str, whole: float) -> list[float]:
        """The history of a value as shares of what there is."""
        return [value / whole for value in self.history.get(key, ())] if whole else []

    def load(self, key: str) -> tuple[float, str]:
        """A load as a share and in words. Idle is what has been so for the last minute."""
        value = self.values[key]
        if self.busy:
            return value / 100, f"{value:.0f}%"
        if coarse := 10 * round(value / 10):
            return coarse / 100, f"about {coarse}%"
        minute = [one for one in self.history.get(key, ())[-MINUTE:] if isfinite(one)]
        return 0.0, "under 5%" if round(max(value, *minute, 0.0)) else "idle"

    def used(self, used: str, total: str) -> str:
        return f"{self.values.get(used, 0):.{1 if self.busy else 0}f}/{self.values.get(total, 0):.0f}"


def stands_still(before: Hardware, after: Hardware) -> bool:
    """Whether two looks at a machine on which no run of ours goes on differ by noise alone, or by a history that was
    level and has only grown longer.
    """
    if before.busy or after.busy or before.values.keys() != after.values.keys():
        return False
    loads = [key for key in after.values if key.endswith(("percent", "util"))]
    return (
        (before.labels, before.gpus, before.problem) == (after.labels, after.gpus, after.problem)
        and all(_near(key, value, after.values[key]) for key, value in before.values.items())
        and all(before.load(key)[1] == "idle" or after.load(key)[1] != "idle" for key in loads)
        and before.history.keys() == after.history.keys()
        and all(_level(key, [*values, *after.history[key]], after) for key, values in before.history.items())
        and [row["pid"] for row in before.processes] == [row["pid"] for row in after.processes]
    )


def _near(key: str, one: float, other: float) -> bool:
    return abs(one - other) <= next((by for end, by in NOISE.items() if key.endswith(end)), 0.0)


def _level(key: str, values: Sequence[float], machine: Hardware) -> bool:
    """Whether values of the history lie within the height of one character of its curve."""
    whole = machine.values.get(key.replace("used_gb", "total_gb"), 0.0) if key.endswith("_gb") else 100.0
    known = [value for value in values if isfinite(value)]
    return not known or max(known) - min(known) <= whole / len(LEVELS)


def latest_values(rows: Sequence[Row]) -> tuple[dict[str, float], dict[str, str]]:
    """Last value of every key, and the name of every device."""
    values = {row["key"]: row["value"] for row in rows if row.get("value") is not None}
    labels = {row["key"].split("/")[0]: row["label"] for row in rows if row.get("label")}
    return values, labels


def series(rows: Sequence[Row]) -> dict[str, list[float]]:
    """The history of every key, from the oldest value on; NaN where nobody sampled for a while."""
    found: dict[str, list[float]] = {}
    for row in rows:
        values = found.setdefault(row["key"], [nan] * STEPS)
        for slot in range(row["slot"], row["slot"] - BRIDGED - 1, -1):
            if 0 <= slot < STEPS and (slot == row["slot"] or not isfinite(values[STEPS - 1 - slot])):
                values[STEPS - 1 - slot] = row["value"]
    return found


def lines(machine: Hardware, width: int, height: int, *, whole: bool = False) -> list[Line]:
    """As much as there is room for; `whole`: meters for which there is room, and every process."""
    names = machine.gpu_names
    if not machine.values and not names:
        return [[(machine.problem or "no samples of the hardware yet", "dim")]]
    listed = processes.lines(machine.processes, machine.gpus, machine.busy, width)
    rest = _rest(machine, width)
    short = [fit(_rest_line(machine), width)] if rest else []
    blocks = [line for gpu in names for line in _gpu(machine, gpu, width)]
    rows = [_gpu_line(machine, gpu, width) for gpu in names]
    choices = [[*blocks, *rest], [*blocks, *short], [*rows, *rest], [*rows, *short]]
    wanted = height - min(len(listed), LEAST_PROCESSES)
    meters = next((one for one in choices if len(one) <= wanted), choices[-1])
    if meters[0] in rows and (whole or len(meters) + len(listed) < height):
        meters = [*_models(machine, names, width), *meters]
    if machine.problem:
        meters.append([(cut(one_line(machine.problem), width), "bad")])
    if whole:
        return [*meters, *([[]] if listed else []), *listed]
    if len(meters) > height:
        more, key = len(meters) - height + 1, key_of("whole", "dashboard")
        return [*meters[: height - 1], [(f"… {more} more: {key} shows all", "faint")]]
    return [*meters, *processes.within(listed, height - len(meters))]


def line(machine: Hardware) -> Line:
    """All of it in one line, for small terminals."""
    parts: list[str] = []
    for gpu in machine.gpu_names:
        load = f" {machine.load(f'{gpu}/util')[1]}" if f"{gpu}/util" in machine.values else ""
        memory = machine.used(f"{gpu}/memory_used_gb", f"{gpu}/memory_total_gb")
        parts.append(f"{gpu}{load} {memory} GB")
    return [(" · ".join([*parts, *_rest_parts(machine)]), "dim")]


# ---- one GPU ---------------------------------------------------------------------------------------


def _gpu(machine: Hardware, gpu: str, width: int) -> list[Line]:
    """A head, and a meter for load and memory each."""
    head: Line = [(f"{gpu} ", "dim"), (one_line(machine.labels.get(gpu, gpu)), "text")]
    if runs := machine.runs(gpu):
        head += [("  ", ""), (runs, "accent")]
    if why := machine.lost(gpu):
        return [spread(head, [("does not answer", "bad")], width), [(cut(one_line(why), width), "dim")]]
    facts = [_power(machine, gpu), _heat(machine, gpu)]
    shown = [spread(head, [(" · ".join(filter(None, facts)), "dim")], width)]
    if f"{gpu}/util" in machine.values:
        share, text = machine.load(f"{gpu}/util")
        past = machine.shares(f"{gpu}/util", 100.0)
        shown.append(_meter("load", _plain(share), text, past, width))
    else:
        unknown = cut("not known: the card does not say (MIG?)", width - NAME)
        shown.append([(left("load", NAME), "dim"), (unknown, "faint")])
    if total := machine.values.get(f"{gpu}/memory_total_gb", 0.0):
        text = machine.used(f"{gpu}/memory_used_gb", f"{gpu}/memory_total_gb") + " GB"
        past = machine.shares(f"{gpu}/memory_used_gb", total)
        shown.append(_meter("memory", _memory(machine, gpu, total), text + _ours(machine, gpu), past, width))
    return shown


def _gpu_line(machine: Hardware, gpu: str, width: int) -> Line:
    """One GPU in one line."""
    if why := machine.lost(gpu):
        return fit([(left(gpu, 6), "dim"), ("does not answer: ", "bad"), (one_line(why), "dim")], width)
    load = machine.load(f"{gpu}/util")[1] if f"{gpu}/util" in machine.values else "?"
    total = machine.values.get(f"{gpu}/memory_total_gb", 0.0)
    memory = machine.used(f"{gpu}/memory_used_gb", f"{gpu}/memory_total_gb") if total else "?"
    room = max(8, width - 50)
    past = sparkline(machine.shares(f"{gpu}/util", 100.0), room // 2, (0.0, 1.0))
    meter = _memory(machine, gpu, total)(room - room // 2) if total else []
    return fit(
        [
            (left(gpu, 5), "dim"),
            (right(load.replace("about ", "~").replace("under ", "<"), 5), "text"),
            (" " + left(past, room // 2) + " ", "accent"),
            *fit(meter, room - room // 2),
            (right(f"{memory} GB", 13), "text"),
            (right(_power(machine, gpu), 11), "dim"),
            (right(_heat(machine, gpu), 7), "dim"),
            ("  ", ""),
            (machine.runs(gpu), "accent"),
        ],
        width,
    )


def _models(machine: Hardware, names: Sequence[str], width: int) -> list[Line]:
    """What the GPUs are, where each has a line of figures only."""
    counts = Counter(one_line(machine.labels.get(gpu, gpu)) for gpu in names)
    return [[(cut(", ".join(f"{count} × {label}" for label, count in counts.items()), width), "text")]]


def _power(machine: Hardware, gpu: str) -> str:
    watts, cap = (machine.values.get(f"{gpu}/{key}") for key in ("power_w", "power_cap_w"))
    if watts is None:
        return "" if cap is None else f"?/{cap:.0f} W"
    return f"{watts:.0f} W" if cap is None else f"{watts:.0f}/{cap:.0f} W"


def _heat(machine: Hardware, gpu: str) -> str:
    heat = machine.values.get(f"{gpu}/temp_c")
    return "" if heat is None else f"{heat:.0f} °C"


def _memory(machine: Hardware, gpu: str, total: float) -> Callable[[int], Line]:
    used = machine.values.get(f"{gpu}/memory_used_gb", 0.0)
    own = machine.own_memory(gpu)
    return _plain(used / total) if own is None else _split(min(own, used) / total, used / total)


def _ours(machine: Hardware, gpu: str) -> str:
    own = machine.own_memory(gpu)
    return f", {own:.{1 if machine.busy else 0}f} ours" if own else ""


# ---- the rest of the machine ------------------------------------------------------------------------


def _rest(machine: Hardware, width: int) -> list[Line]:
    values, shown = machine.values, []
    if "cpu/percent" in values:
        share, text = machine.load("cpu/percent")
        shown.append(_meter("CPU", _plain(share), text, machine.shares("cpu/percent", 100.0), width))
    if total := values.get("ram/total_gb"):
        used = values.get("ram/used_gb", 0.0)
        own = min(used, machine.own_ram())
        shares = (own / total, (used if machine.busy else round(used)) / total)
        text = machine.used("ram/used_gb", "ram/total_gb") + " GB"
        text += f", {own:.{1 if machine.busy else 0}f} ours" if own >= 0.05 else ""
        past = machine.shares("ram/used_gb", total)
        shown.append(_meter("memory", _split(*shares) if own else _plain(shares[1]), text, past, width))
    if total := values.get("disk/total_gb"):
        free = values.get("disk/free_gb", 0.0)
        shown.append(_meter("disk", _plain(1 - free / total), f"{free:.0f} GB free", [], width))
    return shown


def _rest_line(machine: Hardware) -> Line:
    return [(" · ".join(_rest_parts(machine)), "dim")]


def _rest_parts(machine: Hardware) -> list[str]:
    values, parts = machine.values, []
    if "cpu/percent" in values:
        parts.append(f"cpu {machine.load('cpu/percent')[1]}")
    if "ram/total_gb" in values:
        parts.append(f"ram {machine.used('ram/used_gb', 'ram/total_gb')} GB")
    if "disk/free_gb" in values:
        parts.append(f"disk {values['disk/free_gb']:.0f} GB free")
    return parts


# ---- meters -----------------------------------------------------------------------------------------


def _meter(name: str, draw: Callable[[int], Line], text: str, past: Sequence[float], width: int) -> Line:
    """A bar, the last minutes where there is room, and the value in words; those after a comma where it is wide."""
    wide = width >= NAME + WIDE_TEXT + 24
    if not wide:
        text = text.partition(",")[0]
    columns = WIDE_TEXT if wide else TEXT
    room = max(4, width - NAME - columns)
    before = min(STEPS, room // 2) if past and room >= 16 else 0
    curve = sparkline(past, before - 1, (0.0, 1.0)) if before else ""
    shown: Line = [(left(name, NAME), "dim"), *draw(room - before)]
    return [*shown, (left(f" {curve}", before), "accent"), (right(text, columns), "text")]


def _plain(share: float) -> Callable[[int], Line]:
    return lambda columns: bar(share, columns, "bad" if share > 0.95 else "warn" if share > 0.85 else "bar")


def _split(own: float, used: float) -> Callable[[int], Line]:
    """What is ours, what is others', and what is free: three glyphs, for eyes and terminals without colours."""

    def draw(columns: int) -> Line:
        taken = max(0, min(columns, round(used * columns)))
        ours = min(taken, max(1, round(own * columns)) if own > 0 else 0)
        return [("━" * ours, "bar"), ("╍" * (taken - ours), "s1"), ("─" * (columns - taken), "bar-rest")]

    return draw

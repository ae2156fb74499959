"""The held-out and general examples on which runs disagree most: rows of the named query `disagreements`, as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.basics.safe_text import one_line
from tui.bindings import key_of
from tui.lines import format
from tui.lines.scroll import visible_top
from tui.lines.text import Line, cut, left, right, wrap
from tui.rows import Row, Run
from tui.widgets.sides import InView, Sides

SUITES = (
    ("held-out and general", ("heldout", "general")),
    ("held-out", ("heldout",)),
    ("general", ("general",)),
)
_NAMES = {"heldout": "held-out", "general": "general"}
_REFERENCE, _OTHER, _LEAST_TEXT = 10, 16, 24
_PREVIEW = 6  # lines on the example under the cursor, where there is room
LEGEND = "losses in nats per token (or pair), and differences from the reference"


@dataclass(frozen=True)
class Example:
    suite: str
    example: str
    slice: str
    prompt: str
    target: str
    tokens: int
    per: str
    spread: float
    losses: Mapping[int, float]  # by run

    @property
    def text(self) -> str:
        return self.prompt or self.target or self.example


def examples(rows: Sequence[Row], suites: Sequence[str]) -> list[Example]:
    """Those of some suites, the farthest apart first."""
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["suite"] in suites:
            grouped.setdefault((row["suite"], row["example"]), []).append(row)
    return [
        Example(
            suite, example, group[0]["slice"] or "", group[0]["prompt"] or "", group[0]["target"] or "",
            group[0]["tokens"], group[0]["per"], group[0]["spread"], {row["run"]: row["loss"] for row in group},
        )
        for (suite, example), group in grouped.items()
    ]  # fmt: skip


def lines(
    found: Sequence[Example], cursor: int, runs: Sequence[Run], sides: Sides, of: str, width: int, height: int
) -> list[Line]:
    """A row an example: its text, the reference's loss, and of the others the loss and the difference. Below, where
    there is room, more of the one under the cursor.
    """
    if not found:
        return [[(cut(f"no {of} example was scored by several runs with the same tokens", width), "dim")]]
    most = width - _LEAST_TEXT
    count = max(2, min(len(runs), 1 + (most - _REFERENCE) // _OTHER))
    name = width - _REFERENCE - _OTHER * (count - 1)
    view = sides.in_view(runs, width - name, _REFERENCE, _OTHER, _OTHER)
    preview = _preview(found[cursor], width) if height >= 2 * _PREVIEW + 2 else []
    room = height - 1 - len(preview)
    top = visible_top(max(0, cursor - room // 2), cursor, len(found), room)
    shown = [
        _row(example, at == cursor, view, name)
        for at, example in enumerate(found[top : top + room], start=top)
    ]
    shown += [[] for _ in range(room - len(shown))]
    return [_head(view, name, f"{cursor + 1}/{len(found)} {of}"), *shown, *preview]


def _head(view: InView, name: int, text: str) -> Line:
    line: Line = [(left(f" {text}", name - len(view.hidden) - 1), "dim"), (f"{view.hidden} ", "warn")]
    for column in view.columns:
        mark = "▌" if column.chosen else " "
        pinned = " pinned" if column.pinned and column.width > _REFERENCE else ""
        shown = right(f"{mark}#{column.run.number}{pinned} ", column.width)
        line.append((shown, "title" if column.chosen else "text"))
    return line


def _row(example: Example, under: bool, view: InView, name: int) -> Line:
    where = left(_NAMES.get(example.suite, example.suite), 9)
    line: Line = [
        ("▌", "cursor") if under else (" ", ""),
        (where, "faint"),
        (left(one_line(example.text), name - 11) + " ", "bright" if under else "text"),
    ]
    reference = example.losses.get(view.reference.number)
    for column in view.columns:
        loss = example.losses.get(column.run.number)
        line.append((right(format.loss(loss), 8), "text" if loss is not None else "faint"))
        if column.width > _REFERENCE:
            known = loss is not None and reference is not None
            text = format.delta(loss - reference) if loss is not None and reference is not None else ""
            worse = known and loss is not None and reference is not None and loss > reference
            line.append((right(text, 8), "bad" if worse else "good" if text else "dim"))
        else:
            line.append(("  ", ""))
    return line


def _preview(example: Example, width: int) -> list[Line]:
    said = f"─ {facts(example)} · {key_of('read_pane', 'compare')}: all of it "
    lines: list[Line] = [[(left(said + "─" * max(0, width - len(said)), width), "rule")]]
    for name, text, most in (("prompt", example.prompt, 2), ("target", example.target, _PREVIEW - 3)):
        rows = wrap(one_line(text.replace("\n", " ⏎ ")), max(10, width - 9))[:most]
        lines += [[(left(name if not at else "", 8), "faint"), (row, "text")] for at, row in enumerate(rows)]
    return [*lines, *([] for _ in range(_PREVIEW - len(lines)))]


def facts(example: Example) -> str:
    of_slice = f", {one_line(example.slice)}" if example.slice else ""
    tokens = f"{example.tokens} token{'s' if example.tokens != 1 else ''}"
    suite = _NAMES.get(example.suite, example.suite)
    return f"{suite}{of_slice} · {tokens} · apart by {format.loss(example.spread)} nats per {example.per}"


def whole(example: Example, runs: Sequence[Run], sides: Sides) -> str:
    """The example with its texts and the loss of every run."""
    names = {run.number: run.name for run in runs}
    reference = example.losses.get(sides.reference)
    parts = [facts(example), ""]
    for number in sides.order:
        loss = example.losses.get(number)
        if loss is None:
            parts.append(f"#{number} {names.get(number, '')}: not scored, or read by another tokenizer")
            continue
        difference = (
            "" if reference is None or number == sides.reference else f"  {format.delta(loss - reference)}"
        )
        parts.append(f"#{number} {names.get(number, '')}: {format.loss(loss)}{difference}")
    return "\n".join([*parts, "", "prompt", "", example.prompt, "", "target", "", example.target])

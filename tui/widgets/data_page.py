"""The report on data as lines: the page, and one rendered example with its loss mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.basics.safe_text import one_line
from engine.report import page
from tui.lines.text import Line, flow, width_of, wrap

_STYLES = {"warning": "warn", "refused": "bad"}


def facts(report: dict[str, Any], width: int) -> list[Line]:
    """What is wrong first, then all else, wrapped beside the labels."""
    findings = page.findings(report)
    lines = [*findings[::-1], *([""] if findings else []), *page.facts(report)]
    return [line for text in lines for line in _labelled(text, width)]


def _labelled(text: str, width: int) -> list[Line]:
    label, body = text[2 : page.LABEL], one_line(text[page.LABEL :])
    style = _STYLES.get(label.strip(), "text" if label.strip() else "dim")
    room = max(10, width - page.LABEL + 2)
    wrapped = [body] if width_of(body) <= room else wrap(body, room)
    return [
        [
            (label if at == 0 else " " * (page.LABEL - 2), style if style in ("warn", "bad") else "key"),
            (part, style),
        ]
        for at, part in enumerate(wrapped)
    ]


def summary(report: dict[str, Any]) -> Line:
    """For the header: whether a run on these data may start."""
    refused, warned = len(report["refusals"]), len(report["warnings"])
    line: Line = [(f"   {refused} refused", "bad")] if refused else [("   may start", "good")]
    return [*line, (f", {warned} warning{'' if warned == 1 else 's'}", "warn")] if warned else line


def examples(rows: Sequence[dict[str, Any]], at: int, width: int, *, marks: bool) -> list[Line]:
    """Example `at` and those after it, each below a line about it."""
    lines: list[Line] = []
    for place, one in enumerate(rows[at:], start=at + 1):
        cut = ", cut" if one["cut"] else ""
        about = f": row {one['row']}, {one['tokens']:,} tokens{cut}, {one['targets']:,} learned"
        lines += [[(f"{place} of {len(rows)}", "title"), (about, "text")]]
        lines += [*example(one["pieces"], width, marks=marks), []]
    return lines[:-1]


def example(pieces: Sequence[tuple[str, bool]], width: int, *, marks: bool) -> list[Line]:
    """The text as the model sees it: what is learned in green, and between marks where there is no colour."""
    begin, end = page.LEARNED if marks else ("", "")
    return flow(
        ((f"{begin}{text}{end}", "good") if learned else (text, "dim") for text, learned in pieces), width
    )

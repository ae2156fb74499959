"""The tokens of an example by the change of their loss, in colour, or with signs where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tui.lines import format
from tui.lines.text import Line, Span, flow, wrap

# From so many nats on, (style, sign, words); the first that fits. What changes less stays as it is.
WORSE = ((1.0, "bad", "[++]", "worse by 1 nat or more"), (0.25, "warn", "[+]", "worse by 0.25 or more"))
BETTER = (-0.25, "good", "[-]", "better by 0.25 or more")


def spans(tokens: Sequence[dict[str, Any]], *, marks: bool) -> list[Span]:
    """The text, each token in its style; `marks`: with its sign behind it. A line break is shown as one, too."""
    return [_span(one["text"], one["after"] - one["before"], marks=marks) for one in tokens]


def _span(text: str, change: float, *, marks: bool) -> Span:
    style, sign = look(change)
    if style == "text":
        return text, style
    shown = text.replace("\n", "⏎\n")
    return (f"{shown}{sign}" if marks else shown), style


def look(change: float) -> tuple[str, str]:
    """Style and sign of a change."""
    for least, style, sign, _ in WORSE:
        if change >= least:
            return style, sign
    return BETTER[1:3] if change <= BETTER[0] else ("text", "")


def legend(width: int, *, marks: bool) -> list[Line]:
    entries = [*(entry[1:] for entry in WORSE), BETTER[1:]]
    if marks:
        return [
            [(line, "dim")]
            for line in wrap(", ".join(f"{sign} {words}" for _, sign, words in entries), width)
        ]
    return flow([part for style, _, words in entries for part in ((words, style), ("   ", ""))], width)


def lines(scored: dict[str, Any], width: int, *, marks: bool) -> list[Line]:
    """`scored`: what the process that scores tokens has said."""
    title = f"Target: each token under the base model and at step {scored['step']}"
    return [
        [(title, "title")],
        *legend(width, marks=marks),
        *flow(spans(scored["tokens"], marks=marks), width),
    ]


def rows(tokens: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """A row a token, for the command line."""
    return [
        {
            "change": format.delta(one["after"] - one["before"]),
            "before": format.loss(one["before"]),
            "after": format.loss(one["after"]),
            "sign": look(one["after"] - one["before"])[1],
            "token": one["text"].replace("\n", "⏎"),
        }
        for one in tokens
    ]

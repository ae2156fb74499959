"""One example whole, as lines: its change, its loss at each look, its text, and what the model wrote to its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import indent

from engine.basics.safe_text import lines, one_line
from tui.lines import format, token_changes, word_differences
from tui.lines.looks import Compared
from tui.lines.text import Line, Span, block, flow, wrap
from tui.lines.theme import Glyphs
from tui.lines.word_differences import Piece
from tui.rows import Row
from tui.widgets import changes, plot
from tui.widgets.canvas import Series
from tui.widgets.plot import Plot

CHART_HEIGHT = 8


@dataclass(frozen=True)
class Example:
    """What is known of an example: its row in the list, and the answers of the store about it alone."""

    row: Row
    text: Sequence[Row]
    losses: Sequence[Row]
    losses_before: Sequence[Row]  # of the other run; empty where there is none
    answers: Sequence[Row]
    answers_before: Sequence[Row]  # of the run before, which may be the same
    tokens: Row | None = None  # its tokens scored one by one (tui/lines/token_changes.py)

    @property
    def prompt(self) -> str:
        return str(self.text[0]["prompt"] or "") if self.text else ""

    @property
    def target(self) -> str:
        return str(self.text[0]["target"] or "") if self.text else ""

    def answers_at(self, compared: Compared) -> tuple[Row | None, Row | None]:
        """What was written before, and what after; after None where no later answer is known."""
        before = answer_at(self.answers_before, compared.step_before)
        after = answer_at(self.answers, compared.step_after)
        return before, None if compared.run == compared.before and after == before else after


def answer_at(rows: Sequence[Row], step: int) -> Row | None:
    """The last answer up to a step."""
    return next((row for row in reversed(rows) if row["step"] <= step), None)


def page(example: Example, compared: Compared, glyphs: Glyphs, width: int, *, color: bool) -> list[Line]:
    """The example from its change to its answers."""
    shown = [*_head(example.row, width), [], *_chart(example, compared, glyphs, width, color=color)]
    if example.prompt:
        shown += [[], *_text("Prompt", example.prompt, width)]
    if example.tokens:
        shown += [[], *token_changes.lines(example.tokens, width, marks=not color)]
    elif example.target:
        shown += [[], *_text("Target: what is scored", example.target, width)]
    if not example.text:
        shown += [[], *_said("its text is not in the store: the run was stopped before it wrote it", width)]
    return [*shown, *_answers(example, compared, width, marks=not color)]


def _text(title: str, text: str, width: int) -> list[Line]:
    return [[(title, "title")], *([(line, "text")] for line in block(lines(text), width))]


def _said(sentence: str, width: int) -> list[Line]:
    return [[(line, "dim")] for line in wrap(sentence, width)]


def _head(row: Row, width: int) -> list[Line]:
    right = ""
    if row["right_before"] is not None and row["right_after"] is not None:
        right = f", {row['right_before']} → {row['right_after']} of them guessed right"
    facts = [f"{row['tokens']:,} tokens{right}", row["slice"] and f"slice {row['slice']}"]
    facts += [row["document"] and f"document {row['document']}", f"id {row['example']}"]
    change = f"{format.loss(row['before'])} → {format.loss(row['after'])} nats per {row['per']}"
    return [
        [(f"{format.delta(row['change'])}  ", changes.style(row["change"])), (change, "text")],
        *_said(one_line(" · ".join(filter(None, facts))), width),
    ]


def _chart(example: Example, compared: Compared, glyphs: Glyphs, width: int, *, color: bool) -> list[Line]:
    """The loss at each look that scored it."""
    curves = [(f"#{compared.run}", example.losses), (f"#{compared.before}", example.losses_before)]
    series = tuple(
        Series(
            name,
            slot,
            tuple(float(row["step"]) for row in rows),
            tuple(float("nan") if row["loss"] is None else row["loss"] for row in rows),
            interval=True,  # each look has a marker
        )
        for slot, (name, rows) in enumerate(curves)
        if rows
    )
    made = Plot(series, glyphs=glyphs, rhythm=not color, empty="no loss is a number")
    per = example.row["per"]
    return [[(f"Loss at each look, nats per {per}", "title")], *plot.render(made, width, CHART_HEIGHT)]


def _answers(example: Example, compared: Compared, width: int, *, marks: bool) -> list[Line]:
    before, after = example.answers_at(compared)
    if before is None and after is None:
        return []
    title = "Answers, what differs marked" if before and after else "Answer"
    shown: list[Line] = [[], [(title, "title")]]
    old, new = (lines(row["text"] or "") if row else "" for row in (before, after))
    both = word_differences.pieces(old, new) if before and after else (((old, True),), ((new, True),))
    gone = marked(both[0], "bad", "[-", "-]", marks=marks)
    come = marked(both[1], "good", "{+", "+}", marks=marks)
    for number, row, spans in ((compared.before, before, gone), (compared.run, after, come)):
        if row:
            name = f"#{number} " * (compared.before != compared.run)
            shown += [[(f"{name}step {row['step']}", "accent")]]
            shown += [[("  ", ""), *line] for line in flow(spans or [("(nothing)", "faint")], width - 2)]
    return shown


def marked(pieces: Sequence[Piece], style: str, start: str, end: str, *, marks: bool) -> list[Span]:
    """What the other answer does not have in a style, or with signs around it where there is no colour."""
    return [
        (text, "text") if same else (f"{start}{text}{end}" if marks else text, style)
        for text, same in pieces
        if text
    ]


def plain(example: Example, compared: Compared) -> str:
    """The same as text, to copy or to print. Its own texts are indented, so that none looks like a word of finetui."""
    row = example.row
    change = f"{format.delta(row['change'])} nats per {row['per']}"
    parts = [f"example {row['example']}: {change}, {compared.words()}"]
    looks = ", ".join(f"{one['step']}: {format.loss(one['loss'])}" for one in example.losses)
    parts += [f"loss by step: {looks}"]
    parts += [
        f"{name}:\n{indent(lines(text), '  ')}"
        for name, text in (("prompt", example.prompt), ("target", example.target))
        if text
    ]
    for number, answer in zip((compared.before, compared.run), example.answers_at(compared), strict=True):
        if answer:
            parts.append(
                f"answer of #{number} at step {answer['step']}:\n{indent(lines(answer['text'] or ''), '  ')}"
            )
    return "\n\n".join(parts)

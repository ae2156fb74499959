"""What several runs wrote to the same prompt, side by side, with the words in which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.basics.safe_text import lines as safe_lines
from tui.lines import word_differences
from tui.lines.text import Line, cut, fit, flow, left, width_of, wrap
from tui.rows import Row, Run
from tui.widgets.sides import Sides

Written = Mapping[int, Sequence[Row]]  # run → its rows of the named query `samples`

_LEAST = 34  # columns of a text
_PROMPT_LINES = 2


@dataclass(frozen=True)
class Chosen:
    """Which prompt, and of which step (None: of each run's last)."""

    prompt: int = 0
    step: int | None = None


def prompts(written: Written) -> list[str]:
    """Prompts by their text, since runs on other data number them otherwise; those of several runs first."""
    found: dict[str, set[int]] = {}
    for run, rows in written.items():
        for row in sorted(rows, key=lambda row: row["idx"]):
            found.setdefault(row["prompt"] or "", set()).add(run)
    return sorted(found, key=lambda prompt: len(found[prompt]) == 1)


def steps(written: Written) -> list[int]:
    """Every step at which a run wrote, the last one first."""
    return sorted({row["step"] for rows in written.values() for row in rows}, reverse=True)


def sample(rows: Sequence[Row], prompt: str, step: int | None) -> Row | None:
    """What a run wrote to a prompt at a step, else at the last one before it."""
    found = [row for row in rows if (row["prompt"] or "") == prompt and (step is None or row["step"] <= step)]
    return max(found, key=lambda row: row["step"], default=None)


def having(written: Written, step: int | None, words: str) -> dict[int, list[int]]:
    """The prompts, by their place, that have some words, in themselves or in what a run wrote; and those runs."""
    wanted, found = _folded(words), dict[int, list[int]]()
    for at, prompt in enumerate(prompts(written)):
        rows = {number: sample(rows, prompt, step) for number, rows in written.items()}
        runs = [number for number, row in rows.items() if row and wanted in _folded(row["text"])]
        if runs or wanted in _folded(prompt):
            found[at] = runs
    return found


def _folded(text: str | None) -> str:
    """Whatever the case, and wherever the lines end."""
    return " ".join((text or "").casefold().split())


def lines(written: Written, runs: Sequence[Run], sides: Sides, chosen: Chosen, width: int) -> list[Line]:
    """The names of the runs, the prompt, and what each run in view wrote. In a text, words are marked that the
    reference does not have there; in the reference's own, those that the text under the cursor (else the next one)
    does not have.
    """
    known = prompts(written)
    if not known:
        return [[("no samples yet: evals.generate says how many are written at each evaluation", "dim")]]
    at = min(chosen.prompt, len(known) - 1)
    first = max(_LEAST, width // max(1, min(len(runs), width // _LEAST)))
    view = sides.in_view(runs, width, first, _LEAST)
    found = [sample(written[column.run.number], known[at], chosen.step) for column in view.columns]
    texts = [_text(row["text"]) if row else "" for row in found]
    beside = next((i for i, column in enumerate(view.columns) if i and column.chosen), min(1, len(texts) - 1))
    head = view.head(0)
    if view.before or view.after:
        before, after = view.before and f"  « {view.before} more", view.after and f"  {view.after} more »"
        hidden = f"{before or ''}{after or ''}"
        head = [*fit(head, width - width_of(hidden)), (hidden, "warn")]
    blocks: list[list[Line]] = []
    for i, (column, row) in enumerate(zip(view.columns, found, strict=True)):
        other = texts[0] if i else texts[beside]
        compared = row is not None and found[0 if i else beside] is not None
        pieces = word_differences.pieces(other, texts[i])[1] if compared else [(texts[i], True)]
        body = flow([(text, "text" if same else "differs") for text, same in pieces], column.width - 2)
        said = f"step {row['step']}" if row else "nothing written to this prompt"
        blocks.append([[(said, "accent" if row else "dim")], *body])
    step = "last" if chosen.step is None else f"up to step {chosen.step}"
    shown = wrap(_text(known[at]), max(10, width - 2))
    prompt: list[Line] = [[(f"prompt {at + 1}/{len(known)} · {step}", "title")]]
    for number, text in enumerate(shown[:_PROMPT_LINES]):
        more = number == _PROMPT_LINES - 1 and len(shown) > _PROMPT_LINES
        prompt.append([(f"  {cut(text, width - 4)} …" if more else f"  {text}", "dim")])
    height = max(map(len, blocks))
    together: list[Line] = []
    for number in range(height):
        line: Line = []
        for column, block in zip(view.columns, blocks, strict=True):
            line += [(" ", ""), *fit(block[number] if number < len(block) else [], column.width - 1)]
        together.append(line)
    return [head, *prompt, *together]


def _text(text: str | None) -> str:
    return safe_lines(text or "").expandtabs(4)


def whole(written: Written, runs: Sequence[Run], sides: Sides, chosen: Chosen) -> str:
    """The prompt, and what every run wrote to it, one below the other."""
    known = prompts(written)
    if not known:
        return "no samples yet"
    prompt = known[min(chosen.prompt, len(known) - 1)]
    parts = [f"prompt\n\n{prompt}"]
    for number in sides.order:
        run = next((run for run in runs if run.number == number), None)
        row = sample(written.get(number, []), prompt, chosen.step)
        if run and row:
            parts.append(f"#{number} {run.name}, step {row['step']}\n\n{row['text']}")
        elif run:
            parts.append(f"#{number} {run.name}: nothing written to this prompt")
    return f"\n\n{left('─' * 20, 20)}\n\n".join(parts)

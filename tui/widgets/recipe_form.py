"""The fields of a recipe as lines: sections that fold, values, what is wrong, and help on the one under the cursor."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from engine.basics.safe_text import one_line
from tui.bindings import key_of
from tui.lines.recipe_draft import MISSING, Draft, shown
from tui.lines.recipe_fields import SECTIONS, Field, given, problem_of
from tui.lines.text import Line, cut, fit, left, wrap

LABEL = 26  # columns
VALUE = 30  # where help stands beside it
ROOM_FOR_HELP = 84  # columns of a pane from which on it does


@dataclass(frozen=True)
class Row:
    """A line of the form: a field, or the head of a section."""

    section: str
    field: Field | None = None

    @property
    def key(self) -> str:
        return self.field.key if self.field else f"[{self.section}]"


def rows_of(fields: Sequence[Field], folded: Collection[str], search: str) -> list[Row]:
    """What is shown of the fields; a search shows all that it finds, a name before a part of one before a help text."""
    words = search.lower().split()

    def far(field: Field) -> int:
        if search.lower() in (field.key, field.key.rpartition(".")[2]):
            return 0
        return 1 if all(word in field.key for word in words) else 2

    found = [
        (
            section,
            sorted((field for field in fields if field.section == section and _has(field, words)), key=far),
        )
        for section in SECTIONS
    ]
    rows: list[Row] = []
    for section, hits in sorted(((one, hits) for one, hits in found if hits), key=lambda one: far(one[1][0])):
        rows += [Row(section), *(Row(section, field) for field in hits if words or section not in folded)]
    return rows


def _has(field: Field, words: Sequence[str]) -> bool:
    return all(word in f"{field.key} {field.help}".lower() for word in words)


def line(
    draft: Draft, row: Row, fields: list[Field], folded: Collection[str], here: bool, width: int
) -> Line:
    """One line of the form."""
    start: Line = [("▌", "cursor") if here else (" ", "")]
    if row.field is None:
        return fit([*start, *_head(draft, row.section, fields, row.section in folded)], width)
    field = row.field
    value, problem = given(draft, field), problem_of(draft, field, fields)
    mark = ("✗", "bad") if problem else ("●", "accent") if value is not MISSING else (" ", "")
    text, style = _value(draft, field)
    cells: Line = [
        *start,
        (" ", ""),
        mark,
        (" ", ""),
        (left(field.label, LABEL), "bright" if here else "text"),
        (" ", ""),
    ]
    room = width - LABEL - 5
    if width < ROOM_FOR_HELP:
        return fit([*cells, (cut(text, room), style)], width)
    help_text = problem or field.help
    return fit([*cells, (left(text, VALUE), style), (" ", ""), (cut(one_line(help_text), room - VALUE - 1),
                                                              "bad" if problem else "faint")], width)  # fmt: skip


def _head(draft: Draft, section: str, fields: list[Field], is_folded: bool) -> Line:
    of_section = [field for field in fields if field.section == section]
    set_here = sum(given(draft, field) is not MISSING for field in of_section)
    wrong = sum(bool(problem_of(draft, field, fields)) for field in of_section)
    head: Line = [("▸ " if is_folded else "▾ ", "dim"), (section, "title")]
    if is_folded:
        head.append((f"  {len(of_section)} fields" + (f", {set_here} set" if set_here else ""), "faint"))
    return [*head, (f"  {wrong} wrong", "bad")] if wrong else head


def _value(draft: Draft, field: Field) -> tuple[str, str]:
    value = given(draft, field)
    if field.key in draft.sweep:
        return f"{one_line(shown(draft.sweep[field.key]))} in a sweep", "s1"
    if value is not MISSING:
        return one_line(shown(value)), "bright"
    if field.default is MISSING:
        return "required", "warn"
    return ("–" if field.default is None else one_line(shown(field.default))), "dim"


def about(draft: Draft, row: Row, fields: list[Field], width: int) -> list[Line]:
    """All there is on the line under the cursor: nothing of it is cut."""
    field = row.field
    if field is None:
        return [[(f"{key_of('open', 'new')} opens or closes the section", "dim")]]
    problem, value = problem_of(draft, field, fields), given(draft, field)
    lines: list[Line] = [[(piece, "bad")] for piece in wrap(one_line(problem), width)] if problem else []
    lines += [[(piece, "text")] for piece in wrap(f"{field.key}: {one_line(field.help)}", width)]
    facts = []
    if field.key in draft.sweep:
        facts.append(f"varied by the sweep: {one_line(shown(draft.sweep[field.key]))}")
    elif value is not MISSING:
        facts.append(f"set to {one_line(shown(value))}")
    if field.default not in (MISSING, None):
        facts.append(f"default {one_line(shown(field.default))}")
    if field.choices:
        facts.append(f"one of {', '.join(map(shown, field.choices))}")
    elif field.hint:
        facts.append(f"give {field.hint}")
    return lines + [[(piece, "dim")] for piece in wrap("; ".join(facts), width)]

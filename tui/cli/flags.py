"""The flags of a run, printed: what was seen, with its evidence, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.flags import words
from engine.flags.flag import WARNS
from tui.cli.output import out

if TYPE_CHECKING:
    from finetui.client import Client

SHOWN = 3  # examples hit hardest
JSON_COLUMNS = ("advice", "actions", "worst")


def flags_of(client: Client, number: int) -> list[dict[str, Any]]:
    """Rows of `flags`, a row a look, the latest first, with JSON read and the text of the examples that were hit."""
    texts = _texts(client, number)
    rows = client.named("flags", run=number).to_pylist()
    for row in rows:
        row |= {name: words.as_list(row[name]) for name in JSON_COLUMNS}
        row["worst"] = [
            {**one, "text": texts.get(str(one.get("id")))} for one in row["worst"] if isinstance(one, dict)
        ]
    return rows


def print_flags(client: Client, number: int, *, fixable: bool = True) -> None:
    """Each flag as it stands now, gravest first, those that were withdrawn last; nothing if there is none."""
    rows = client.named("flags", run=number).to_pylist()
    if not rows:
        return
    texts = _texts(client, number)
    out()
    out(f"Flags of #{number}")
    flags = words.newest(rows)
    for flag in flags:
        out(f"{words.level(flag).upper()} {flag['flag']} of {words.where(flag)}, {words.when(flag)}")
        out(f"  {flag['message']}")
        for name, text in words.evidence(flag):
            out(f"  {name:<9} {text}")
        for place, step in enumerate(words.advice(flag), start=1):
            out(f"  {'to do' if place == 1 else '':<9} {place}. {step}")
        for place, (change, text) in enumerate(words.worst(flag, texts)[:SHOWN]):
            out(f"  {'worst' if place == 0 else '':<9} {change}  {text[:80]}")
    if fixable and any(flag["level"] in WARNS for flag in flags):
        out(
            f"`finetui fix {number}` turns the first suggestions into a new recipe; sources are in docs/flags.md"
        )


def _texts(client: Client, number: int) -> dict[str, str]:
    """Text of the examples that were hit, by id."""
    rows = client.named("worst", run=number).to_pylist()
    return {row["example"]: row["prompt"] or row["target"] for row in rows if row["prompt"] or row["target"]}

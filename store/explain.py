"""DuckDB's errors, said for people."""

from __future__ import annotations

import re


def explain(error: Exception) -> str:
    """One sentence from DuckDB's message, with its line number and its hint."""
    text = str(error).strip()
    head, _, marked = text.partition("\nLINE ")
    line = re.match(r"(\d+): ?", marked)
    parts = [part.strip().rstrip("!.") for part in head.splitlines() if part.strip()]
    first = re.sub(r"^[A-Z][A-Za-z ]+ Error: ", "", parts[0]) if parts else type(error).__name__
    hints = [re.sub(r"^Candidate bindings: ", "did you mean ", part) for part in parts[1:]]
    sentence = "; ".join([first[:1].lower() + first[1:], *[hint[:1].lower() + hint[1:] for hint in hints]])
    return f"line {line[1]}: {sentence}" if line else sentence

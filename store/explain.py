"""DuckDB's errors, said for people."""

from __future__ import annotations

import re

# What aggregates of the spread say of a value that is NaN or infinite, where sum and avg have a result:
# `Out of Range Error: STDDEV_SAMP is out of range!`, `… STDDEV_POP for X is out of range!` of corr.
_SPREAD = re.compile(
    r"Out of Range Error: ((?:STDDEV|VAR|CORR|COVAR|SEM|SKEW|Kurtosis)\S*)[^:\n]* is out of range!?"
)


def explain(error: Exception) -> str:
    """One sentence from DuckDB's message, with its line number and its hint."""
    text = str(error).strip()
    if found := _SPREAD.match(text):
        return (
            f"{found[1]}: among the values are some that are NaN, infinite or very large, as a run that diverged "
            "logs them; leave them out with WHERE isfinite(value)"
        )
    head, _, marked = text.partition("\nLINE ")
    line = re.match(r"(\d+): ?", marked)
    parts = [part.strip().rstrip("!.") for part in head.splitlines() if part.strip()]
    first = re.sub(r"^[A-Z][A-Za-z ]+ Error: ", "", parts[0]) if parts else type(error).__name__
    hints = [re.sub(r"^Candidate bindings: ", "did you mean ", part) for part in parts[1:]]
    sentence = "; ".join(map(_uncapitalised, [first, *hints]))
    return f"line {line[1]}: {sentence}" if line else sentence


def _uncapitalised(sentence: str) -> str:
    """The sentence as a part of another: `Table with name x` begins small, `SELECT clause` and `JSON` do not."""
    return sentence if sentence[1:2].isupper() else sentence[:1].lower() + sentence[1:]

"""An answer short enough for an assistant to read: what is left out is said in it."""

from __future__ import annotations

import json
from typing import Any

from tui.lines.tables import json_text

MOST_CHARACTERS = 40_000  # of an answer, as JSON
LONGEST_TEXT = 2_000  # characters of one value


def bounded(body: dict[str, Any]) -> dict[str, Any]:
    """The answer as JSON has it, NaN as null, with long texts cut and the longest lists shortened until it fits; `cut`
    says which, and is left out where nothing is.
    """
    cut: dict[str, str] = {}
    answer = {key: _short(value, key, cut) for key, value in json.loads(json_text(body)).items()}
    lengths = {key: len(value) for key, value in answer.items() if isinstance(value, list)}
    while (excess := len(json.dumps(answer)) - MOST_CHARACTERS) > 0:
        sizes = {
            key: len(json.dumps(value)) for key, value in answer.items() if isinstance(value, list | dict)
        }
        key = max(sizes, key=lambda name: sizes[name], default=None)
        if key is None or sizes[key] < 3:
            break  # many short texts: nothing to shorten
        if isinstance(answer[key], dict):
            cut[key], answer[key] = f"{key}: left out, {sizes[key]:,} characters", {}
            continue
        kept = int(len(answer[key]) * max(0.0, 1 - excess / sizes[key]))
        kept = min(kept, len(answer[key]) - 1)
        by_step = _is_by_step(answer[key])
        answer[key] = answer[key][-kept:] if by_step and kept else answer[key][:kept]
        cut[key] = f"{key}: the {'last' if by_step else 'first'} {kept} of {lengths[key]}"
    return {**answer, "cut": list(cut.values())} if cut else answer


def _is_by_step(rows: list[Any]) -> bool:
    """Whether they go on to later steps of a run, so that the last ones say most."""
    first, last = (row.get("step") if isinstance(row, dict) else None for row in (rows[0], rows[-1]))
    return isinstance(first, int) and isinstance(last, int) and first < last


def _short(value: Any, key: str, cut: dict[str, str]) -> Any:
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        cut[f"{key}, text"] = f"{key}: texts end after {LONGEST_TEXT:,} characters"
        return value[:LONGEST_TEXT] + "…"
    if isinstance(value, list):
        return [_short(one, key, cut) for one in value]
    if isinstance(value, dict):
        return {name: _short(one, key, cut) for name, one in value.items()}
    return value

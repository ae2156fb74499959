"""Whether the numbers of several runs can be put side by side: a sentence where they cannot."""

from __future__ import annotations

from collections.abc import Sequence

from store.best import judged_by
from tui.rows import Row, Run


def sentence(runs: Sequence[Run], reference: int, shared: Sequence[Row]) -> str:
    """Why losses of these runs are not comparable, or only in part; empty where they are. `shared`: rows of the named
    query `shared_examples`.
    """
    first = next((run for run in runs if run.number == reference), None)
    if first is None:
        return ""
    heldout = {row["run"]: row for row in shared if row["suite"] == "heldout"}
    found = []
    for run in runs:
        if run.number == reference:
            continue
        if run.task and first.task and run.task != first.task:
            unit = judged_by(run.task).unit
            found.append(f"#{run.number} is {run.task} ({unit}), #{reference} {first.task}")
        elif row := heldout.get(run.number):
            found.append(_of_examples(row, reference))
    return "not comparable: " + "; ".join(filter(None, found)) if any(found) else ""


def _of_examples(row: Row, reference: int) -> str:
    number, shared = row["run"], row["shared"]
    if not row["n_a"]:
        return ""
    if not shared:
        return f"#{number} and #{reference} have no held-out example in common"
    if not row["alike"]:
        return f"#{number} and #{reference} read the same held-out examples by different tokenizers"
    if shared < max(row["n"], row["n_a"]):
        of_reference = f"{shared} of {row['n_a']} held-out examples with #{reference}"
        return f"#{number} shares {of_reference} (paired differences are of these)"
    return ""

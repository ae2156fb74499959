"""Whether the numbers of several runs can be put side by side: a sentence where they cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    not_at_all: dict[str, list[str]] = {}
    in_part: dict[str, list[str]] = {}
    for run in runs:
        row = heldout.get(run.number)
        if run.number == reference:
            continue
        if why := _unlike(run, first, row):
            not_at_all.setdefault(why, []).append(f"#{run.number}")
        elif row and row["shared"] < max(row["n"], row["n_a"]):
            sizes = f"{row['shared']} of their {row['n']} and its {row['n_a']} held-out examples in common"
            in_part.setdefault(f"{sizes} (paired differences are of these)", []).append(f"#{run.number}")
    kinds = (("Not comparable", not_at_all), ("Comparable in part", in_part))
    sentences = [f"{kind} with #{reference}: {_listed(found)}" for kind, found in kinds if found]
    early = [run for run in runs if run.live and run.step < run.total_steps]
    going = ", ".join(f"#{run.number} (step {run.step} of {run.total_steps})" for run in early)
    return ". ".join([*sentences, *([f"Not at its end yet: {going}"] if early else [])])


def _unlike(run: Run, first: Run, row: Row | None) -> str:
    if run.task and first.task and run.task != first.task:
        return f"{run.task} ({judged_by(run.task).unit}), not {first.task}"
    if row is None or not row["n_a"]:
        return ""
    if not row["shared"]:
        return "no held-out example in common"
    return "" if row["alike"] else "another tokenizer reads the held-out examples"


def _listed(found: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{', '.join(numbers)}: {why}" for why, numbers in found.items())

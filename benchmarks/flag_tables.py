"""The flags by regime, by model and by the size of the held-out set: tables on stdout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.flag_judge import (
    OURS,
    Case,
    Told,
    context_of,
    general_case,
    judged,
    lags_of,
    suite_of,
    task_case,
    warned_at,
)
from benchmarks.flag_plants import Plant
from benchmarks.flag_truth import TURNED_UP, Outcome, upper_bound
from engine.flags.history import History
from engine.flags.overfitting import overfitting

SIZES = (12, 30, 60, 100)  # rows of a held-out set
PARTS = 10  # held-out sets of each size that a run's rows are cut into, at most
RISES = (0.0, 0.1, 0.3, np.inf)  # nats per token: bounds of small, middling and large ones


def print_groups(told: Sequence[Told], plants: Sequence[Plant]) -> None:
    """One table by regime and one by model."""
    plant_of = {plant.name: plant for plant in plants}
    for title in ("regime", "model"):
        groups: dict[str, list[Told]] = {}
        for run in told:
            groups.setdefault(getattr(plant_of[run.plant], title), []).append(run)
        counts = "hit / missed / false / right, last or borderline; lag"
        columns = (title, "runs", f"task: {counts}", f"forgetting: {counts}", "warned when clean", "jumps")
        print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
        for group, runs in groups.items():
            print(f"| {' | '.join(_group_cells(group, runs))} |")
        print()


def _group_cells(group: str, runs: Sequence[Told]) -> list[str]:
    clean = [run for run in runs if run.truth.clean]
    warned = sum(run.task[OURS] is not None or run.general[OURS] is not None for run in clean)
    return [
        group,
        str(len(runs)),
        _counts([task_case(run) for run in runs], TURNED_UP),
        _counts([general_case(run) for run in runs], 1.0),
        f"{warned} of {len(clean)} (≤ {upper_bound(warned, len(clean)):.0%})",
        str(sum(run.jumped for run in runs)),
    ]


def _counts(cases: Sequence[Case], margin: float) -> str:
    found = [judged(case, margin) for case in cases]
    kinds: tuple[Outcome, ...] = ("hit", "missed", "false", "right")
    told = " / ".join(str(found.count(kind)) for kind in kinds)
    lags = lags_of(cases, margin)
    unsure = found.count("last") + found.count("borderline")
    return f"{told}, {unsure}; {np.median(lags):g}" if lags else f"{told}, {unsure}; –"


# ---- how many held-out rows it takes


@dataclass(frozen=True)
class Tried:
    """A held-out set of `n` rows of a run, judged as if the run had no others."""

    n: int
    case: Case


def print_sizes(root: Path, told: Sequence[Told]) -> None:
    """Cut the held-out rows of each run into disjoint sets of each size, and judge each as a run of its own."""
    tried = [one for run in told for one in _try_sizes(root / "runs" / f"{run.plant}-{run.seed}.npz", run)]
    columns = (
        "held-out rows",
        "false where never risen",
        "risen, by the oracle",
        "sets",
        "power",
        "median lag",
    )
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for n in SIZES:
        cases = [one.case for one in tried if one.n == n]
        outcomes = [judged(case, TURNED_UP) for case in cases]
        false, right = outcomes.count("false"), outcomes.count("right")
        shown = f"{false} of {false + right} (≤ {upper_bound(false, false + right):.1%})"
        for lo, hi in pairwise(RISES):
            risen = [
                case
                for case, found in zip(cases, outcomes, strict=True)
                if found in ("hit", "missed") and lo <= case[2] < hi
            ]
            lags = lags_of(risen, TURNED_UP)
            power = f"{len(lags) / len(risen):.0%}" if risen else "–"
            lag = f"{np.median(lags):g}" if lags else "–"
            print(f"| {n} | {shown} | {lo:g} to {hi:g} | {len(risen)} | {power} | {lag} |")
    print()


def _try_sizes(path: Path, run: Told) -> list[Tried]:
    with np.load(path) as file:
        arrays = dict(file)
    context = context_of(json.loads(str(arrays["meta"]))["recipe"], arrays["rates"])
    heldout, seen = (suite_of(arrays, name, context.task) for name in ("heldout", "seen"))
    tried = []
    for n in SIZES:
        for part in _parts(heldout, n):
            flagged = warned_at(
                lambda k, part=part: overfitting(part.until(k), seen.until(k), context),  # type: ignore[misc]
                part.looks,
            )
            tried.append(Tried(n, (run.truth.turned_up, flagged, run.truth.rise, run.truth.looks)))
    return tried


def _parts(history: History, n: int) -> list[History]:
    """Disjoint sets of n examples; the examples are in the order of their hash already."""
    places = np.arange(len(history.ids)) // n
    return [history.only(places == part) for part in range(min(PARTS, len(history.ids) // n))]

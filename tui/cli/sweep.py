"""`finetui sweep`: the runs of a sweep by what they gained, what tells them apart, and what each setting was worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from engine.recipe.sweep import short_names
from finetui.daemon import connect
from finetui.errors import StoreError
from store.states import RunState
from tui.cli.output import out, print_json, print_table, say
from tui.cli.show import find

if TYPE_CHECKING:
    from finetui.client import Client

NEAREST = 10  # runs that the best one is compared with, example by example
FEWEST = 10  # finished runs from which what a setting is worth is said
OF_RESULTS = ("heldout_best", "general", "flags", "cost")


@dataclass(frozen=True)
class RankCorrelation:
    """How the held-out result goes with a setting: Spearman's rank correlation over the finished runs.

    The interval is Fisher's with the variance 1.06 / (n - 3) of Fieller, Hartley and Pearson (Biometrika 44, 1957).
    """

    key: str
    correlation: float  # -1: the greater, the lower the loss
    lo: float
    hi: float
    n: int

    @property
    def verdict(self) -> str:
        if self.lo <= 0 <= self.hi:
            return "cannot be told"
        return "greater is better" if self.correlation < 0 else "smaller is better"


def sweep(number: int, *, as_json: bool) -> None:
    """All runs of the sweep that a run belongs to, the best first."""
    with connect() as client:
        client.drain(say)
        sweep_id = find(client, number)["sweep"]
        if sweep_id is None:
            raise StoreError(f"run #{number} belongs to no sweep; finetui compare takes any runs", "refused")
        rows = [row for row in client.named("runs").to_pylist() if row["sweep"] == sweep_id]
        runs = [row["run"] for row in rows]
        differing = client.named("params_diff", runs=runs).to_pylist() if len(runs) > 1 else []
        settings: dict[int, dict[str, Any]] = {run: {} for run in runs}
        for one in differing:
            settings[one["run"]][one["key"]] = one["value"]
        rows.sort(key=lambda row: (row["heldout_best"] is None, row["heldout_best"], row["run"]))
        best = _best_run(client, rows)
    worth = rank_correlations([(settings[row["run"]], row["heldout_best"]) for row in rows if _is_done(row)])
    if as_json:
        shown = [{**row, "settings": settings[row["run"]]} for row in rows]
        print_json({"sweep": sweep_id, "runs": shown, "best": best, "worth": [asdict(one) for one in worth]})
        return
    keys = list(dict.fromkeys(one["key"] for one in differing))
    short = dict(zip(keys, short_names(keys), strict=True))
    print_table(
        [
            {
                "run": row["run"],
                "state": row["state"],
                **{short[key]: settings[row["run"]].get(key) for key in keys},
                **{name: row[name] for name in OF_RESULTS},
            }
            for row in rows
        ]
    )
    done = sum(_is_done(row) for row in rows)
    out(f"{len(rows)} runs, {done} finished" + (f"; {best['sentence']}" if best else ""))
    if worth:
        out()
        out(
            f"What each setting was worth (rank correlation with the held-out loss, {worth[0].n} finished runs)"
        )
        print_table(
            [{**asdict(one), "": one.verdict} for one in worth], ("key", "correlation", "lo", "hi", "")
        )
    elif keys:
        out(f"what each setting was worth can be said from {FEWEST} finished runs on, of numbers")


def _is_done(row: dict[str, Any]) -> bool:
    return row["state"] == RunState.FINISHED and row["heldout_best"] is not None


def _best_run(client: Client, rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the best finished run, and those next to it that the same examples cannot tell from it."""
    done = [row for row in rows if _is_done(row)]
    if not done:
        return None
    best, others = done[0]["run"], [row["run"] for row in done[1 : NEAREST + 1]]
    alike = []
    for other in others:
        (pair,) = client.named("paired", a=best, b=other).to_pylist() or [{"n": 0}]
        if pair["n"] and pair["lo"] is not None and pair["lo"] > 0:
            continue
        alike.append(other)
    sentence = f"#{best} is the best"
    if alike:
        names = ", ".join(f"#{run}" for run in alike)
        sentence += f", and the same examples cannot tell it from {names} (paired at their last looks)"
    elif others:
        sentence += ", and ahead of all others on the same examples"
    return {"run": best, "alike": alike, "sentence": sentence}


def rank_correlations(runs: Sequence[tuple[dict[str, Any], float]]) -> list[RankCorrelation]:
    """Return what is known of each setting that is a number and varies, by the size of its correlation; none of fewer
    than FEWEST runs.
    """
    if len(runs) < FEWEST:
        return []
    from scipy.stats import spearmanr  # takes half a second to import

    found = []
    for key in dict.fromkeys(key for settings, _ in runs for key in settings):
        values = [_number(settings.get(key)) for settings, _ in runs]
        if any(value is None for value in values) or len(set(values)) < 2:
            continue
        correlation = float(spearmanr(values, [result for _, result in runs]).statistic)
        if math.isnan(correlation):
            continue
        half = 1.96 * math.sqrt(1.06 / (len(runs) - 3))
        middle = math.atanh(max(-0.999999, min(0.999999, correlation)))
        found.append(
            RankCorrelation(key, correlation, math.tanh(middle - half), math.tanh(middle + half), len(runs))
        )
    return sorted(found, key=lambda one: -abs(one.correlation))


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None

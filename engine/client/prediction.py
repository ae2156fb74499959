"""What a suggestion would bring, predicted from what similar runs in the store did.

Two runs tell something about a change of the recipe if they have the base model, the task and the data of the run that
is to be fixed, and differ from each other in the keys of that change alone, as it would change them; seeds may differ.
Pure functions over the rows of the named query `similar`. Torch-free.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.basics.statistics import Estimate, ratio

Row = Mapping[str, Any]

# Keys in which runs may differ and still learn the same.
NOT_LEARNED = ("name", "seed", "processes", "evals.", "flags.", "train.micro_tokens", "train.memory_limit",
               "train.checkpoint_every", "train.keep_checkpoints", "train.activation_checkpointing",
               "train.compile")  # fmt: skip
# Another method comes with settings, a rate and a warm-up of its own.
OF_METHOD = ("method.", "train.lr", "train.warmup")
UNKNOWN = "no similar run in the store: what it would bring is unknown"
LEAST_SCALED = 3  # similar runs that scaling did not help, until it is called not worth it


@dataclass(frozen=True)
class Prediction:
    """What is expected of a suggestion."""

    runs: int  # that it is based on
    heldout: Estimate | None = None  # change of the held-out loss at the end; above 0: worse
    general: Estimate | None = None  # change of the general loss at the end; below 0: less forgotten
    kept: float | None = None  # share of the gain since the base model that stays
    worth: bool | None = None  # None: unknown
    text: str = UNKNOWN

    def as_dict(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "heldout": self.heldout and self.heldout.value,
            "general": self.general and self.general.value,
            "kept": self.kept,
            "worth": self.worth,
            "text": self.text,
        }


def predict(
    rows: Sequence[Row], flag: str, changes: Mapping[str, tuple[str | None, str | None]]
) -> Prediction:
    """Predict a change of the recipe: by key (old, new) value as text, None where there is none. `rows`: similar runs,
    the one that is to be fixed among them.
    """
    if "method.name" in changes:
        changes = {"method.name": changes["method.name"]}
    groups = _groups(rows, changes)
    pairs = [
        (before, after)
        for group in groups
        for start, before in group.items()
        for end, after in group.items()
        if all(_alike(changes[key], (old, new)) for key, old, new in zip(changes, start, end, strict=True))
    ]
    if not pairs:
        return Prediction(0)
    befores, afters = zip(*pairs, strict=True)
    runs = {row["run"] for side in (*befores, *afters) for row in side}
    heldout = _mean([_at_end(after, "heldout") - _at_end(before, "heldout") for before, after in pairs])
    drifts = [_drift(after) - _drift(before) for before, after in pairs]
    general = None if any(map(math.isnan, drifts)) else _mean(drifts)
    gained, gains = sum(map(_gain, afters)), sum(map(_gain, befores))
    kept = gained / gains if gains > 0 else None
    balance = heldout.value + (general.value if general and flag == "forgetting" else 0.0)
    return Prediction(
        len(runs), heldout, general, kept, balance < 0, _text(len(runs), heldout, general, kept, balance < 0)
    )


def predict_scaling(rows: Sequence[Row], run: int) -> Prediction:
    """Predict what scaling a run would bring: what it did, if it was scored, or what it did for similar runs."""
    scaled = [row for row in rows if row["scaling"] is not None]
    own = next((row for row in scaled if row["run"] == run), None)
    if own:
        text = f"scored already: {own['scaling']}"
        return Prediction(
            1, kept=own["scaling_kept"], worth=own["scaling_helps"], text=_judged(text, own["scaling_helps"])
        )
    if not scaled:
        return Prediction(0)
    helped = [row for row in scaled if row["scaling_helps"]]
    text = f"it helped {len(helped)} of {len(scaled)} similar runs"
    shares = [row["scaling_kept"] for row in helped if row["scaling_kept"] is not None]
    if shares:
        factors = [row["scaling_factor"] for row in helped]
        text += (
            f", which kept {np.mean(shares):.0%} of their gain at factor {np.mean(factors):.2g} on average"
        )
    worth = True if helped else False if len(scaled) >= LEAST_SCALED else None
    kept = float(np.mean(shares)) if shares else None
    return Prediction(len(scaled), kept=kept, worth=worth, text=_judged(text, worth))


def _groups(rows: Sequence[Row], keys: Iterable[str]) -> list[dict[tuple[str | None, ...], list[Row]]]:
    """Group runs that differ in these keys alone: for each set of the other values, the runs by those of the keys."""
    groups: dict[tuple[tuple[str, str], ...], dict[tuple[str | None, ...], list[Row]]] = {}
    for row in rows:
        if not _is_known(row["heldout_base"], row["heldout"]):
            continue  # it came to nothing, so nothing is known of its end
        values = {item["key"]: item["value"] for item in row["params"]}
        ignored = (*NOT_LEARNED, *(OF_METHOD if "method.name" in keys else ()))
        rest = {
            key: value for key, value in values.items() if key not in keys and not key.startswith(ignored)
        }
        of_keys = tuple(values.get(key) for key in keys)
        groups.setdefault(tuple(sorted(rest.items())), {}).setdefault(of_keys, []).append(row)
    return list(groups.values())


def _is_known(*losses: float | None) -> bool:
    return all(loss is not None and math.isfinite(loss) for loss in losses)


def _alike(asked: tuple[str | None, str | None], done: tuple[str | None, str | None]) -> bool:
    """Whether a change is the one that is asked about: numbers in the same direction, by half as much to twice as much
    on a log scale; anything else by the same values.
    """
    if asked == done:
        return done[0] != done[1]
    ratios = [_log_ratio(*pair) for pair in (asked, done)]
    if None in ratios or ratios[0] == 0:
        return False
    return 0.5 <= ratios[1] / ratios[0] <= 2  # type: ignore[operator]


def _log_ratio(old: str | None, new: str | None) -> float | None:
    try:
        return math.log(float(new or "") / float(old or ""))
    except (ValueError, ZeroDivisionError):
        return None


def _at_end(runs: Sequence[Row], suite: str) -> float:
    return float(np.mean([row[suite] for row in runs]))


def _gain(runs: Sequence[Row]) -> float:
    """The fall of the held-out loss since the base model; mean over runs that differ in their seed alone."""
    return float(np.mean([row["heldout_base"] - row["heldout"] for row in runs]))


def _drift(runs: Sequence[Row]) -> float:
    """The rise of the general loss since the base model; NaN without general text."""
    if not all(_is_known(row["general"], row["general_base"]) for row in runs):
        return math.nan
    return float(np.mean([row["general"] - row["general_base"] for row in runs]))


def _mean(values: Sequence[float]) -> Estimate:
    return ratio(np.array(values), np.ones(len(values)))


def _text(runs: int, heldout: Estimate, general: Estimate | None, kept: float | None, worth: bool) -> str:
    parts = [f"held-out {_change(heldout)}"]
    if kept is not None:
        parts[0] += f", {kept:.0%} of the gain stays"
    if general:
        parts.append(f"general text {_change(general)}")
    return _judged(f"predicted from {runs} similar runs: {'; '.join(parts)}", worth)


def _change(estimate: Estimate) -> str:
    lo, hi = estimate.interval()
    return f"{estimate.value:+.3f}" + (f" ({lo:+.3f} to {hi:+.3f})" if math.isfinite(lo) else "")


def _judged(text: str, worth: bool | None) -> str:
    return f"not worth it: {text}" if worth is False else text

"""Every detector on the cached runs, against the truth of their oracles: tables on stdout, and a picture."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import flag_baselines
from benchmarks.flag_picture import svg
from benchmarks.flag_plants import FORGETS_LESS, Plant, cache_path
from benchmarks.flag_truth import (
    FORGETS_BADLY,
    TURNED_UP,
    Outcome,
    Score,
    Truth,
    outcome,
    real_text,
    score,
    truth,
    upper_bound,
)
from engine.flags.flag import LEVELS, WARNS, Flag, Forecast, Level
from engine.flags.forecast import FROM, forecast
from engine.flags.forgetting import divergence, forgetting
from engine.flags.history import Context, History
from engine.flags.instability import instability
from engine.flags.overfitting import overfitting
from engine.flags.part import replay_looks
from engine.flags.progress import dead
from engine.recipe.sections import Evals
from engine.recipe.tasks import Dpo

OURS = "finetui"
IDLE = "tiny-rate"  # the plant that learns nothing
PLAINLY = 1.5  # times the margin of forgetting
FORECASTS = (FROM, 0.5, 0.75)  # of the run; goals are set for the first
FORETELLABLE = 0.02  # nats per token at the end: below, a relative error means nothing


@dataclass(frozen=True)
class Told:
    """What the detectors said of a run: first look of each, None if never."""

    plant: str
    seed: int
    truth: Truth
    task: dict[str, int | None]  # overfitting or instability, by detector
    general: dict[str, int | None]  # forgetting, by detector
    critical: int | None  # our critical flag for forgetting
    in_proportion: bool  # a price told as information at some look, and never warned of
    cause: str | None  # of our first warning about the task
    overconfident: bool  # told as information at some look, and never warned
    dead: bool
    jumped: bool  # training losses or gradients
    forecasts: dict[float, Forecast | None]  # by the share of the run that is done
    end_kl: float  # from the base model on the task at the last look, nats per token
    disagreement: tuple[float, float]  # with the worker: of an example, of a suite's change; nats per token


def judge(root: Path, plants: Sequence[Plant], seeds: range, picture: Path | None) -> list[Told]:
    """Print everything about the runs that are there, and return it."""
    paths = [cache_path(root, plant, seed) for seed in seeds for plant in plants]
    told = [tell(path) for path in paths if path.exists()]
    print(f"{len(told)} of {len(paths)} runs; {sum(run.truth.clean for run in told)} clean by their oracle\n")
    if not told:
        return told
    task = {name: _task_score(told, name) for name in told[0].task}
    _table("Overfitting and instability", task, _clean(told, lambda run: run.task))
    general = {name: _general_score(told, name) for name in told[0].general}
    of_clean = _clean(told, lambda run: run.general)
    _table("Forgetting", general, of_clean)
    plain = [r for r in told if r.truth.forgets is None or r.truth.excess >= PLAINLY]
    beyond = {name: _general_score(plain, name) for name in general}
    _table(f"Forgetting by {PLAINLY:g} times the margin or more, or never", beyond, of_clean)
    for line in [*_more(told), *_directions(told)]:
        print(line)
    columns = (
        "run | forgets at | pays from | drift | to margin | turned up at | harmless from | rise | cause | said | "
        "foretold and come"
    )
    print(f"\n| {columns} |\n{'|---' * 11}|")
    for run in told:
        print(_row(run))
    if picture:
        picture.write_text(svg({"Overfitting and instability": task, "Forgetting": general}, OURS))
    return told


def tell(path: Path) -> Told:
    """Replay a run, look by look."""
    with np.load(path) as file:
        arrays = dict(file)
    meta = json.loads(str(arrays["meta"]))
    total, evals = len(arrays["rates"]), Evals()
    context = context_of(meta["recipe"], arrays["rates"])
    whole = {name: real_text(suite_of(arrays, name, context.task)) for name in ("heldout", "seen", "general")}
    # The looks of a run score a part first. Other detectors are given every example.
    heldout, seen, general = (
        replay_looks(suite, 0 if suite.tokens.max() == 1 else evals.first_part(name), total)
        for name, suite in whole.items()
    )
    # Training examples have no oracle beside them: all that is asked of them is the cause.
    true_heldout, true_general = (
        suite_of(arrays, f"oracle-{name}", context.task) for name in ("heldout", "general")
    )
    oracle = truth(true_heldout, true_general, whole["seen"], context.weighs)
    about_task = _replay(lambda k: overfitting(heldout.until(k), seen.until(k), context), heldout.looks)
    has_text = "general/nll" in arrays
    about_general = _replay(
        lambda k: forgetting(general.until(k), context, heldout.until(k)) if has_text else None, general.looks
    )
    warned = _first(about_task)
    # From the first look at each share of the run or after it; a run's last look is at its end.
    reached = {share: int(np.searchsorted(general.steps, share * total)) for share in FORECASTS}
    forecasts = {
        share: forecast(general.until(look), context) if has_text else None for share, look in reached.items()
    }
    kl = divergence(heldout)
    jumps = [
        instability(arrays["train_loss"][:k], arrays["grad_norm"][:k], 1, context) for k in general.steps[1:]
    ]
    return Told(
        plant=meta["plant"],
        seed=meta["seed"],
        truth=oracle,
        task={OURS: warned}
        | {
            name: _index(rule(whole["heldout"], whole["seen"]))
            for name, rule in flag_baselines.OVERFITTING.items()
        },
        general={OURS: _first(about_general)}
        | {name: _index(rule(whole["general"])) for name, rule in flag_baselines.FORGETTING.items()},
        critical=_first(about_general, "critical"),
        in_proportion=_first(about_general) is None and any(f and f.level == "info" for f in about_general),
        cause=about_task[warned].flag if warned is not None else None,  # type: ignore[union-attr]
        overconfident=warned is None and any(f and f.flag == "overconfident" for f in about_task),
        dead=any(dead(seen.until(k), context) for k in range(1, len(seen.steps))),
        jumped=any(flag and flag.level in WARNS for flag in jumps),
        forecasts=forecasts,
        end_kl=kl.value if kl else float("nan"),
        disagreement=(float(arrays["disagreement"]), float(arrays["disagreement_of_change"])),
    )


def suite_of(arrays: dict[str, np.ndarray], name: str, task: str) -> History:
    """A suite over the looks, by what its task is measured by: pairs by their preference loss, all else by the loss. A
    classifier's general text, which it cannot score, is two examples that never change.
    """
    if task == "dpo" and not name.endswith("general"):
        return preferences(history(arrays, name), arrays[f"{name}/rejected"])
    if f"{name}/nll" in arrays:
        return history(arrays, name)
    steps = tuple(arrays["steps"].tolist())
    return History(name, steps, ("a", "b"), np.tile([1.0, 2.0], (len(steps), 1)), np.ones(2, dtype=int))


def preferences(chosen: History, rejected: np.ndarray, beta: float = Dpo(name="dpo").beta) -> History:
    """Pairs by their preference loss, -log sigmoid(margin), each pair counted once: 0.693 at step 0. From the nll of
    the chosen answers and of the `rejected` ones, [looks, pairs]. A temperature explains nothing of it.
    """
    gains = chosen.nll[0] - chosen.nll, rejected[0] - rejected.astype(np.float64)
    margins = beta * (gains[0] - gains[1])
    losses, pairs = np.logaddexp(0, -margins), len(chosen.ids)
    return dataclasses.replace(
        chosen,
        nll=losses,
        tokens=np.ones(pairs, dtype=int),
        right=(margins > 0).astype(int),
        temperatures=(1.0,),
        tempered=losses[:, None],
    )


def history(arrays: dict[str, np.ndarray], name: str) -> History:
    def get(key: str) -> Any:
        return arrays.get(f"{name}/{key}")

    return History(
        suite=name,
        steps=tuple(arrays["steps"].tolist()),
        ids=tuple(get("ids").tolist()),
        nll=get("nll").astype(np.float64),
        tokens=get("tokens"),
        right=get("right"),
        lost=get("lost"),
        gained=get("gained"),
        kl=get("kl"),
        temperatures=tuple(arrays["temperatures"].tolist()) if get("tempered") is not None else (),
        tempered=get("tempered"),
        slices=tuple(get("slices").tolist()) if get("slices") is not None else (),
    )


def context_of(recipe: dict[str, Any], rates: np.ndarray) -> Context:
    method, replay = recipe["method"], recipe["data"].get("replay")
    return Context(
        method=method if isinstance(method, str) else method["name"],
        lr=recipe["train"]["lr"],
        replay=replay["ratio"] if replay else 0.0,
        general=recipe["evals"]["general"],
        epochs=recipe["train"]["epochs"],
        task=recipe.get("task", "sft"),
        rates=rates,
    )


def _replay(detect: Callable[[int], Flag | None], looks: int) -> list[Flag | None]:
    return [None, *(detect(look) for look in range(1, looks + 1))]


def _first(flags: Sequence[Flag | None], level: Level = "warn") -> int | None:
    grave = LEVELS.index(level)
    return next((k for k, flag in enumerate(flags) if flag and LEVELS.index(flag.level) >= grave), None)


def warned_at(detect: Callable[[int], Flag | None], looks: int) -> int | None:
    """The first look at which a detector warns."""
    grave = LEVELS.index("warn")
    flags = ((look, detect(look)) for look in range(1, looks + 1))
    return next((look for look, flag in flags if flag and LEVELS.index(flag.level) >= grave), None)


def _index(hits: Sequence[bool]) -> int | None:
    return next((k for k, hit in enumerate(hits) if hit), None)


# Onset, first look flagged, largest effect and looks of a run.
Case = tuple[int | None, int | None, float, int]


def task_case(run: Told, name: str = OURS) -> Case:
    return run.truth.turned_up, run.task[name], run.truth.rise, run.truth.looks


def general_case(run: Told, name: str = OURS) -> Case:
    """By how much the rise is of its margin: 1 is at the margin."""
    return run.truth.forgets, run.general[name], run.truth.excess, run.truth.looks


def _task_score(told: Sequence[Told], name: str) -> Score:
    return _scored([task_case(run, name) for run in told], TURNED_UP)


def _general_score(told: Sequence[Told], name: str) -> Score:
    return _scored([general_case(run, name) for run in told], 1.0)


def judged(case: Case, margin: float) -> Outcome:
    begins, flagged, effect, looks = case
    return outcome(begins, flagged, effect, margin, looks)


def lags_of(cases: Sequence[Case], margin: float) -> list[int]:
    """Looks from onset to flag, of the hits."""
    return [case[1] - case[0] for case in cases if judged(case, margin) == "hit"]  # type: ignore[operator]


def _scored(cases: Sequence[Case], margin: float) -> Score:
    return score([judged(case, margin) for case in cases], lags_of(cases, margin))


def _clean(told: Sequence[Told], flagged: Callable[[Told], dict[str, int | None]]) -> list[tuple[int, int]]:
    """(flagged, all) of the clean runs, by detector. `flagged`: of a run, the first look of each detector."""
    clean = [flagged(run) for run in told if run.truth.clean]
    return [(sum(run[name] is not None for run in clean), len(clean)) for name in flagged(told[0])]


def _table(title: str, scores: dict[str, Score], clean: Sequence[tuple[int, int]]) -> None:
    print(f"## {title}\n")
    columns = (
        "detector",
        "precision",
        "recall",
        "median lag",
        "hit / false / missed / right",
        "borderline, last",
    )
    print("| " + " | ".join([*columns, "false warnings on clean runs (95% bound)"]) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for (name, found), (count, n) in zip(scores.items(), clean, strict=True):
        counts = f"{found.hits} / {found.false} / {found.missed} / {found.right}"
        cells = [name, f"{found.precision:.2f}", f"{found.recall:.2f}", f"{found.lag:g}", counts]
        cells += [f"{found.borderline}, {found.last}", f"{count} of {n} (≤ {upper_bound(count, n):.1%})"]
        print("| " + " | ".join(cells) + " |")
    print()


def _more(told: Sequence[Told]) -> list[str]:
    badly = _scored(
        [(r.truth.forgets_badly, r.critical, r.truth.drift, r.truth.looks) for r in told], FORGETS_BADLY
    )
    clean = {run.plant: False for run in told if run.truth.clean}
    for run in told:
        if run.truth.clean and (run.task[OURS] is not None or run.general[OURS] is not None):
            clean[run.plant] = True
    warned = sum(clean.values())
    hits = [r for r in told if r.truth.turned_up is not None and r.cause]
    same = sum(run.cause == run.truth.cause for run in hits)
    harmless = [r for r in told if r.truth.harmless is not None]
    shown = sum(run.overconfident for run in harmless)
    paid = [r for r in told if r.truth.pays is not None]
    lines = [
        f"critical for forgetting ({FORGETS_BADLY:g}): precision {badly.precision:.2f}, recall {badly.recall:.2f}, "
        f"{badly.hits} hit, {badly.false} false, {badly.missed} missed, {badly.right} right, {badly.borderline} "
        f"borderline, {badly.last} last",
        f"plants with a false warning in any clean run: {warned} of {len(clean)} (95% bound "
        f"{upper_bound(warned, len(clean)):.1%})",
        f"cause right: {same} of {len(hits)}",
        f"harmless rises told as information, never as a warning: {shown} of {len(harmless)}",
        f"prices in proportion told as information, never as a warning: {sum(r.in_proportion for r in paid)} of "
        f"{len(paid)}",
        "largest disagreement with the worker's own scores: {:.2g} nats per token of an example, {:.2g} of a suite's "
        "change since step 0".format(*np.max([r.disagreement for r in told], axis=0)),
    ]
    idle = [r.plant == IDLE for r in told if r.dead]
    lines.append(
        f"told as dead: {sum(idle)} of {sum(r.plant == IDLE for r in told)} of {IDLE}, {idle.count(False)} others"
    )
    lines += [line for share in FORECASTS if (line := _foretold(told, share))]
    tuned = [r for r in told if np.isfinite(r.end_kl)]
    if len(tuned) > 2:
        r2 = np.corrcoef([r.end_kl for r in tuned], [r.truth.end for r in tuned])[0, 1] ** 2
        lines.append(f"KL on the task predicts forgetting: R² = {r2:.2f} over {len(tuned)} runs")
    return lines


def _foretold(told: Sequence[Told], share: float) -> str | None:
    found = [
        (said, run.truth.end)
        for run in told
        if (said := run.forecasts[share]) and run.truth.end >= FORETELLABLE
    ]
    if not found:
        return None
    error = np.median([abs(said.value - end) / end for said, end in found])
    held = sum(said.lo <= end <= said.hi for said, end in found)
    return f"forecast at {share:.0%}: median error {error:.0%}, 80% interval holds the end in {held} of {len(found)}"


def _directions(told: Sequence[Told]) -> list[str]:
    end = {(run.plant, run.seed): run.truth.end for run in told}
    lines = []
    for what, less, more in FORGETS_LESS:
        seeds = [seed for plant, seed in end if plant == less and (more, seed) in end]
        if seeds:
            right = sum(end[less, seed] < end[more, seed] for seed in seeds)
            lines.append(f"{what} ({less} < {more}): {right} of {len(seeds)} seeds")
    return lines


def _row(run: Told) -> str:
    t = run.truth
    said = [f"forgetting at {run.general[OURS]}"] if run.general[OURS] is not None else []
    said += [f"{run.cause} at {run.task[OURS]}"] if run.task[OURS] is not None else []
    said += [word for word in ("in_proportion", "overconfident", "dead", "jumped") if getattr(run, word)]
    cells = [f"{run.plant} {run.seed}", t.forgets, t.pays, f"{t.drift:.3f}", f"{t.excess:.2f}"]
    cells += [t.turned_up, t.harmless, f"{t.rise:.3f}"]
    shown = ["–" if cell is None else str(cell) for cell in [*cells, t.cause]]
    foretold, end = run.forecasts[FROM], f"{t.end:.3f}"
    if foretold:
        end = f"{foretold.value:.3f} ({foretold.lo:.3f} to {foretold.hi:.3f}), {end}"
    return "| " + " | ".join([*shown, ", ".join(said) or "–", end]) + " |"

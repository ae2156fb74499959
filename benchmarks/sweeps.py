"""Losers of sweeps, stopped early: what it saves, and how often a run is stopped that would have won.

    python -m benchmarks.sweeps run [--sweeps 8]     train whole sweeps of the bundled model, and keep their looks
    python -m benchmarks.sweeps judge                replay them, one run after the other, by our rule and by Optuna's
    python -m benchmarks.sweeps simulate             the same on planted curves, thousands of runs

A run was stopped wrongly where it would have become the best: where its lowest held-out loss, had it gone on, is below
that of the best run that had finished by then. The runs of a sweep are replayed in the order in which they were queued,
one at a time.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from engine.client import preflight
from engine.client.submit import submit
from engine.recipe import recipe_file
from engine.search.losers import Example, Progress, behind
from engine.search.searcher import progress, swept_runs
from finetui.client import Client
from finetui.daemon import connect
from tui.cli.follow import wait_for_runs

KEPT = Path(__file__).parent / "results" / "sweeps"
RECIPE = """\
name: sweep-{seed}
model: bundled:stdlib-2m
method: {{name: {method}}}
data: {{train: bundled:docstrings, heldout: {heldout}, limit: {limit}}}
train: {{epochs: {epochs}, tokens_per_step: 2048, schedule: {schedule}}}
evals: {{every: 10%, general: null, generate: 0}}
seed: {seed}
sweep:
  runs: 12
  draw_seed: {seed}
  train.lr: {{from: {low}, to: {high}, scale: log}}
  train.warmup: [1%, 5%, 15%]
{more}"""
KINDS = (
    {"method": "lora", "low": 1e-4, "high": 3e-2, "more": "  method.r: [2, 8, 32]\n", "schedule": "cosine"},
    {"method": "lora", "low": 1e-3, "high": 1e-2, "more": "  method.r: [2, 8, 32]\n", "schedule": "linear"},
    {"method": "full", "low": 1e-5, "high": 3e-3, "more": "  train.weight_decay: [0.0, 0.1]\n", "schedule": "cosine"},
    {"method": "full", "low": 1e-4, "high": 2e-3, "more": "  train.weight_decay: [0.0, 0.1]\n", "schedule": "constant"},
)  # fmt: skip


DROPS = {"the rate falls alike for all": (0.2,), "and helps some much more than others": (0.0, 0.2, 0.6)}


@dataclass(frozen=True)
class Whole:
    """A run that was not stopped: its looks by step."""

    progress: Progress

    @property
    def losses(self) -> dict[int, float]:
        """Loss per token of each look after the first."""
        return {
            step: sum(one.loss for one in look.values()) / sum(one.tokens for one in look.values())
            for step, look in sorted(self.progress.looks.items())
            if step > 0
        }

    @property
    def result(self) -> float:
        return min(self.losses.values())

    def until(self, step: int) -> Progress:
        looks = {at: look for at, look in self.progress.looks.items() if at <= step}
        return Progress(self.progress.steps, looks)


# Says of a run, given the sweep's finished runs and the look, whether it is stopped there.
Rule = Callable[[int, Whole, Sequence[Whole], int], bool]


@dataclass
class Tally:
    """What a rule did to sweeps."""

    runs: int = 0
    stopped: int = 0
    wrongly: int = 0  # of those stopped
    would_win: int = 0  # runs that become the best of those before them, and might be stopped wrongly
    lost_best: int = 0  # sweeps whose best run was stopped
    sweeps: int = 0
    steps: int = 0
    taken: int = 0
    worse: float = 0.0  # nats per token by which the best run that is left is worse, summed over sweeps

    def line(self, name: str) -> str:
        return (
            f"| {name} | {self.stopped} of {self.runs} | {1 - self.taken / self.steps:.0%} | {self.wrongly} "
            f"({self.wrongly / max(1, self.would_win):.1%} of {self.would_win}) | {self.lost_best} of {self.sweeps} | "
            f"{self.worse / self.sweeps:.4f} |"
        )


HEAD = (
    "| rule | stopped | steps saved | stopped, would have won | best run stopped | best is worse by |\n"
    "|---|---|---|---|---|---|"
)


def replay(sweep: Sequence[Whole], rule: Rule, tally: Tally) -> None:
    """Go through a sweep by a rule, one run after the other."""
    finished: list[Whole] = []
    best_of_all = min(run.result for run in sweep)
    tally.sweeps += 1
    for number, run in enumerate(sweep):
        tally.runs += 1
        tally.steps += run.progress.steps
        would_win = bool(finished) and run.result < min(one.result for one in finished)
        tally.would_win += would_win
        at = next((step for step in list(run.losses)[:-1] if rule(number, run, finished, step)), None)
        tally.taken += run.progress.steps if at is None else at
        if at is None:
            finished.append(run)
            continue
        tally.stopped += 1
        tally.wrongly += would_win
        tally.lost_best += run.result == best_of_all
    tally.worse += min(run.result for run in finished) - best_of_all


def ours(number: int, run: Whole, finished: Sequence[Whole], step: int) -> bool:
    if not finished:
        return False
    best = min(finished, key=lambda one: one.result)
    return behind(run.until(step), best.progress) is not None


def of_optuna(make: Callable[[int], optuna.pruners.BasePruner]) -> Callable[[], Rule]:
    """Return what makes a rule of one of Optuna's pruners, for one sweep: looks are its resource."""

    def begin() -> Rule:
        study: optuna.Study | None = None
        trials: dict[int, optuna.Trial] = {}

        def rule(number: int, run: Whole, finished: Sequence[Whole], step: int) -> bool:
            nonlocal study
            looks = list(run.losses)
            if study is None:
                study = optuna.create_study(
                    study_name="sweep",  # by which Hyperband draws
                    pruner=make(len(looks)),
                    sampler=optuna.samplers.RandomSampler(seed=0),
                )
            if number not in trials:
                for earlier, trial in trials.items():  # those that were never stopped have finished by now
                    if study.trials[earlier].state == optuna.trial.TrialState.RUNNING:
                        study.tell(trial, study.trials[earlier].intermediate_values[len(looks) - 1])
                trials[number] = study.ask()
            trial = trials[number]
            trial.report(run.losses[step], looks.index(step) + 1)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                return True
            return False

        return rule

    return begin


RULES: dict[str, Callable[[], Rule]] = {
    "paired looks (`stop_losers`)": lambda: ours,
    "median (Optuna)": of_optuna(lambda looks: optuna.pruners.MedianPruner()),
    "successive halving (Optuna)": of_optuna(
        lambda looks: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    ),
    "Hyperband (Optuna)": of_optuna(
        lambda looks: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=looks, reduction_factor=3)
    ),
}


def judge(sweeps: Sequence[Sequence[Whole]]) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(HEAD)
    for name, begin in RULES.items():
        tally = Tally()
        for sweep in sweeps:
            replay(sweep, begin(), tally)
        print(tally.line(name), flush=True)


# ---- real sweeps ---------------------------------------------------------------------------------


def train_one(client: Client, folder: Path, seed: int) -> list[Whole]:
    chance, kind = random.Random(seed), KINDS[seed % len(KINDS)]
    settings = {
        "limit": chance.choice((300, 600)),
        "heldout": chance.choice((60, 120)),
        "epochs": chance.choice((1, 3)),
    }
    path = folder / f"sweep-{seed}.yaml"
    path.write_text(RECIPE.format(seed=seed, **kind, **settings))
    file = recipe_file.read(path)
    numbers = submit(client, file, [preflight.check(one, folder) for one in file.recipes])
    wait_for_runs(client, numbers, None)
    client.drain()
    uuid = client.query(f"SELECT sweep FROM runs WHERE run = {numbers[0]}").to_pylist()[0]["sweep"]
    return [Whole(progress(client, run)) for run in swept_runs(client)[uuid] if run.state == "finished"]


def train(count: int) -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, connect(Path(place) / "home") as client:
        for seed in range(count):
            target = KEPT / f"sweep-{seed}.json"
            if target.exists():
                continue
            runs = train_one(client, Path(place), seed)
            body = [packed(run) for run in runs]
            target.write_text(json.dumps(body, separators=(",", ":")))
            print(f"{target.name}: {len(runs)} runs, best {min(run.result for run in runs):.3f}", flush=True)
        client.action("stop")


def packed(run: Whole) -> dict[str, Any]:
    """Return a run for a small file: examples by number, losses to a thousandth, null where one was not scored."""
    examples = list(dict.fromkeys(key for look in run.progress.looks.values() for key in look))
    first = {key: one for look in run.progress.looks.values() for key, one in look.items()}
    draws = list(dict.fromkeys(first[key].draw for key in examples))
    looks = {
        step: [round(look[key].loss, 3) if key in look else None for key in examples]
        for step, look in run.progress.looks.items()
    }
    return {
        "steps": run.progress.steps,
        "tokens": [first[key].tokens for key in examples],
        "draws": [draws.index(first[key].draw) for key in examples],
        "looks": looks,
    }


def unpacked(body: dict[str, Any]) -> Whole:
    looks = {
        int(step): {
            str(place): Example(loss, body["tokens"][place], str(body["draws"][place]))
            for place, loss in enumerate(losses)
            if loss is not None
        }
        for step, losses in body["looks"].items()
    }
    return Whole(Progress(body["steps"], looks))


def kept() -> list[list[Whole]]:
    return [[unpacked(run) for run in json.loads(path.read_text())] for path in sorted(KEPT.glob("*.json"))]


# ---- planted curves ------------------------------------------------------------------------------


def planted(
    chance: np.random.Generator, drops: Sequence[float], runs: int = 12, examples: int = 60
) -> list[Whole]:
    """A sweep whose curves cross: loss = a + b (1 + s)^-c + d (1 - s / T), each example with a level and a pace of its
    own. `drops`: what d may be, which falls only as the rate does.
    """
    steps, hard, tokens = 100, chance.normal(0, 0.6, examples), chance.integers(5, 60, examples)
    sweep = []
    for _ in range(runs):
        end, height, pace = 2 + abs(chance.normal(0, 0.3)), chance.uniform(0.5, 2.5), chance.uniform(0.3, 1.5)
        drop = chance.choice(drops)
        own = chance.normal(0, 0.15, examples)
        looks = {}
        for step in range(0, steps + 1, 10):
            mean = end + height * (1 + step) ** -pace + drop * (1 - step / steps)
            noise = chance.normal(0, 0.1, examples)
            losses = (mean + hard + own * min(1.0, step / 20) + noise) * tokens
            looks[step] = {
                str(place): Example(float(losses[place]), int(tokens[place]), str(place))
                for place in range(examples)
            }
        sweep.append(Whole(Progress(steps, looks)))
    return sweep


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "judge", "simulate"))
    parser.add_argument("--sweeps", type=int, default=8)
    given = parser.parse_args()
    if given.what == "run":
        train(given.sweeps)
    elif given.what == "judge":
        judge(kept())
    else:
        for name, drops in DROPS.items():
            chance = np.random.default_rng(0)
            print(f"\n{name}:\n")
            judge([planted(chance, drops) for _ in range(given.sweeps)])


if __name__ == "__main__":
    main()

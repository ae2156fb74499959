"""The values of the next run of a sweep: drawn like the first ones, or proposed by Optuna from the results so far.

TPE: J. Bergstra et al., "Algorithms for Hyper-Parameter Optimization", 2011. Optuna is asked anew each time, with all
the results there are, so nothing of it has to be kept, and the same results give the same proposal.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from engine.basics.errors import QueueError
from engine.recipe.sweep import DIGITS, TRIES, BadSweep, Range, Sweep

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MOST_LEFT = 100_000  # combinations of lists that are gone through
Outcome = Literal["open", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Trial:
    """A run of the sweep: its values, and what came of them."""

    values: Mapping[str, Any]
    outcome: Outcome
    looks: Mapping[int, float] = field(default_factory=dict)  # step → held-out loss
    result: float | None = None  # the best held-out loss; None where there is none (yet)


def propose(
    sweep: Sweep, runs: int, trials: Sequence[Trial], given: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any] | None:
    """Return the values of the next run of `runs` in all; None where nothing new is left to try. `given`: values that
    runs had which are gone; nothing is tried twice. Raises QueueError where Optuna is missing.
    """
    known = [trial for trial in trials if _fits(sweep, trial.values)]
    seen = {repr(dict(values)) for values in (*given, *(trial.values for trial in trials))}
    if len(seen) >= sweep.initial_runs(runs) and (values := _proposed(sweep, known, seen, len(seen))):
        return values
    lists = [value for value in sweep.values.values() if not isinstance(value, Range)]
    if len(lists) == len(sweep.values):
        everything = (dict(zip(sweep.keys, one, strict=True)) for one in itertools.product(*lists))
        left = [values for values in itertools.islice(everything, MOST_LEFT) if repr(values) not in seen]
        return random.Random(sweep.seed + len(seen)).choice(left) if left else None
    try:  # so many that one of them is new
        drawn = (dict(zip(sweep.keys, one, strict=True)) for one in sweep.combinations(len(seen) + 1))
        return next((values for values in drawn if repr(values) not in seen), None)
    except BadSweep:  # there are not so many
        return None


def _fits(sweep: Sweep, values: Mapping[str, Any]) -> bool:
    """Whether a run has values that the sweep could have given it; somebody may have changed its recipe."""
    return values.keys() == sweep.values.keys() and all(
        isinstance(values[key], int | float) if isinstance(tried, Range) else values[key] in tried
        for key, tried in sweep.values.items()
    )


def _proposed(sweep: Sweep, trials: Sequence[Trial], seen: set[str], number: int) -> dict[str, Any] | None:
    """Ask Optuna; None where all that it proposes was tried already."""
    try:
        import optuna
    except ImportError:
        raise QueueError("search: tpe needs Optuna: pip install 'finetui[sweeps]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spaces = {key: _distribution(value) for key, value in sweep.values.items()}
    study = optuna.create_study(
        direction="minimize",
        sampler=optuna.samplers.TPESampler(n_startup_trials=0, seed=sweep.seed + number),
        pruner=optuna.pruners.NopPruner(),
    )
    for trial in trials:
        study.add_trial(_told(sweep, trial, spaces))
    for _ in range(TRIES):
        asked = study.ask(spaces)
        values = {key: _value(sweep.values[key], asked.params[key]) for key in sweep.keys}
        if repr(values) not in seen:
            return values
        study.tell(asked, state=optuna.trial.TrialState.FAIL)
    return None


def _told(sweep: Sweep, trial: Trial, spaces: dict[str, BaseDistribution]) -> Any:
    """Return a trial as Optuna has it. A run that was stopped tells by its looks; one that failed says nothing."""
    import optuna

    states = optuna.trial.TrialState
    state = {
        "open": states.RUNNING,
        "finished": states.COMPLETE,
        "stopped": states.PRUNED,
        "failed": states.FAIL,
    }[trial.outcome]
    if state == states.COMPLETE and trial.result is None:
        state = states.FAIL
    params = {key: _param(sweep.values[key], trial.values[key]) for key in sweep.keys}
    return optuna.trial.create_trial(
        state=state,
        params=params,
        distributions=spaces,
        value=trial.result if state == states.COMPLETE else None,
        intermediate_values=dict(trial.looks),
    )


def _distribution(values: Sequence[Any] | Range) -> BaseDistribution:
    from optuna import distributions

    if not isinstance(values, Range):  # by place: Optuna takes no lists or mappings as choices
        return distributions.CategoricalDistribution(range(len(values)))
    if values.whole:
        return distributions.IntDistribution(int(values.low), int(values.high), log=values.log)
    return distributions.FloatDistribution(values.low, values.high, log=values.log)


def _param(values: Sequence[Any] | Range, value: Any) -> Any:
    if isinstance(values, Range):
        return min(values.high, max(values.low, value))  # a drawn value was rounded
    return list(values).index(value)


def _value(values: Sequence[Any] | Range, param: Any) -> Any:
    if not isinstance(values, Range):
        return values[param]
    return int(param) if values.whole else float(f"{param:.{DIGITS}g}")

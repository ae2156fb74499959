"""What a recipe's evaluations will cost, from its data and from what earlier runs of the same shape took."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from engine.data.formats import Document
from engine.data.gather import RunData
from engine.evals.cost import FORWARD, Cost, SuiteSize, predict
from engine.recipe.fields import SAMPLE_TOKENS, SEEN_LIMIT
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from finetui.home import home
from store.line_fields import last_line
from store.lines import End
from store.paths import list_runs

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LATEST = 50  # runs that are searched for one of the same shape
BY_TOKEN = ("sft", "completion")  # tasks whose own suites are scored a part first


@dataclass(frozen=True)
class Measured:
    """What the latest run of the same shape took."""

    ratio: float  # time for a token scored, of that for one trained on
    token_s: float  # seconds for one trained on
    run: int


Count = Callable[[list[Document], "Tokenizer"], int]  # tokens of documents, about


def look_cost(
    recipe: Recipe, run_data: RunData, tokenizer: Tokenizer, tokens: int, steps: int, count: Count
) -> Cost:
    """Foretell what the looks of a run cost. `tokens`: of one pass over its training rows."""
    longest = recipe.train.max_length if isinstance(recipe.train.max_length, int) else None
    suites = suite_sizes(recipe, run_data, tokenizer, tokens, count)
    heldout = suites[0]
    prompt = heldout.tokens // max(1, heldout.examples)
    answer = min(prompt, longest or prompt) + recipe.evals.max_new_tokens
    evals = recipe.evals.model_copy(update={"generate": min(recipe.evals.generate, heldout.examples)})
    if recipe.task.name == "classification":  # a classifier writes nothing
        evals = evals.model_copy(update={"generate": 0})
    measurement = measured(recipe)
    per_step = tokens / recipe.train.steps_of_epoch(tokens)
    if measurement is None:
        return predict(evals, steps, per_step, suites, answer, FORWARD)
    cost = predict(evals, steps, per_step, suites, answer, measurement.ratio, measurement.run)
    return replace(cost, seconds=steps * per_step * measurement.token_s / max(1e-9, 1 - cost.share))


def suite_sizes(
    recipe: Recipe, run_data: RunData, tokenizer: Tokenizer, tokens: int, count: Count
) -> list[SuiteSize]:
    """Return the suites that every look scores, the held-out one first."""
    by_token = recipe.task.name in BY_TOKEN
    heldout = run_data.heldout.documents
    seen = min(SEEN_LIMIT, recipe.evals.limit, len(run_data.train))
    seen_tokens = tokens * seen // max(1, len(run_data.train))
    sizes = [
        SuiteSize("heldout", len(heldout), count(heldout, tokenizer) if heldout else 0, by_token),
        SuiteSize("seen", seen, seen_tokens, by_token),
    ]
    general = [document for suite in run_data.general for document in suite.documents]
    if general:
        sizes.append(SuiteSize("general", len(general), count(general, tokenizer), True))
        if recipe.evals.samples:
            sizes.append(
                SuiteSize("samples", recipe.evals.samples, recipe.evals.samples * SAMPLE_TOKENS, True)
            )
    return sizes


def measured(recipe: Recipe) -> Measured | None:
    """Return what a token took in the latest run of the same shape; None if there is none."""
    wanted = _shape(recipe.model_dump(mode="json"))
    try:
        runs = list_runs(home().runs).runs
    except OSError:
        return None
    for number in sorted(runs, reverse=True)[:LATEST]:
        run = RunDir(runs[number])
        try:
            same = _shape(json.loads(run.meta.read_text())["recipe"]) == wanted
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if same and (measurement := _measured_by(run)):
            return measurement
    return None


def _measured_by(run: RunDir) -> Measured | None:
    """Return what the latest attempt that looked has measured."""
    for attempt in reversed(run.attempts()):
        end = last_line(attempt.events, End)
        timing = end.timing if end else None
        if timing and timing.train_s and timing.train_tokens and timing.eval_s and timing.eval_tokens:
            token_s = timing.train_s / timing.train_tokens
            return Measured(timing.eval_s / timing.eval_tokens / token_s, token_s, run.number)
    return None


def _shape(tree: Any) -> tuple[Any, ...]:
    """Return the keys of a recipe that decide how long a token takes."""
    train, evals = tree["train"], tree["evals"]
    return (
        tree["model"],
        tree["method"],
        tree["task"]["name"],
        tree.get("processes"),
        *(train.get(key) for key in ("precision", "compile", "micro_tokens")),
        *(evals.get(key) for key in ("generate", "max_new_tokens")),
    )

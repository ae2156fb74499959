"""Evaluate a run: score every suite, generate a few answers, raise flags."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator

from engine.evals import base_samples, scores_file
from engine.evals.base_scores import BasePredictions
from engine.evals.generate import choose_questions, generate_answers
from engine.evals.outcome import Outcome, is_scored_by_token, score_suite
from engine.evals.part_scores import complete, first_part, tokens_read
from engine.evals.score import Scores
from engine.losses.loss import TargetLoss
from engine.losses.packing import unpacked
from engine.losses.task import TaskLoss
from engine.models import distributed
from engine.recipe.fields import SAMPLES
from engine.tasks.prepare import Suite
from engine.training.base_cache import BaseCache, base_cache_of, starts_as_base
from engine.training.flagging import raise_flags
from engine.training.job import Job


def evaluate(job: Job, accelerator: Accelerator, module: TaskLoss) -> str | None:
    """Score all suites, log them, raise flags; return the reason if a flag stops the run.

    Nothing is logged before everything is scored, so that a cancelled evaluation is simply repeated.
    """
    recipe, report = job.recipe, job.report
    report.phase("eval", job.step, ", ".join(suite.name for suite in job.data.suites))
    cache, suites = _base_cache(job, module), job.data.suites
    score = partial(_score, job, module, accelerator.device, cache)
    job.model.eval()
    with accelerator.autocast():
        outcomes = {suite.name: score(suite, _first_part(job, module, suite)) for suite in suites}
        outcomes = complete(outcomes, suites, job.looks, job.step, score, recipe.flags)
        max_new_tokens = recipe.evals.max_new_tokens
        max_tokens = min(job.data.max_length, job.data.longest - max_new_tokens)
        questions = choose_questions(recipe, job.data.suite("heldout"), job.tokenizer, max_tokens)
        with unpacked(job.model), distributed.whole_root(module):
            generate = partial(
                generate_answers, job.model, job.tokenizer, questions, max_new_tokens, accelerator.device
            )
            answers = distributed.from_first(
                cache.answers(questions, max_new_tokens, generate) if cache else generate()
            )
    job.model.train()
    job.stop.check()
    if job.step > 0:
        job.spent.eval_tokens += sum(tokens_read(suite, outcomes[suite.name].scores.ids) for suite in suites)
    texts = [answer.text for answer in answers]
    text_measures = job.metrics.measures(texts, [question.reference for question in questions])
    for suite in suites:
        outcome = outcomes[suite.name]
        if job.step == 0:
            _keep_base(job, suite, outcome.scores)
            report.examples(suite)
        job.looks.add(job.step, suite.name, outcome.scores)
        measures = outcome.measures | (text_measures if suite.name == "heldout" else {})
        if suite.name == SAMPLES:
            history = job.looks.history(SAMPLES)
            measures = base_samples.measures(history) if history else {}
        report.eval(job.step, suite.name, outcome.scores, measures, outcome.confusion, outcome.seconds)
    for index, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        report.sample(job.step, index, question.prompt, answer.text, answer.ended, question.fits)
        job.looks.add_answer(job.step, answer.text, answer.ended, question.fits)
    return raise_flags(job)


def _score(
    job: Job,
    loss: TaskLoss,
    device: torch.device,
    cache: BaseCache | None,
    suite: Suite,
    only: np.ndarray | None,
) -> Outcome:
    """Score a suite, or its examples at the indices `only`, at this step."""
    started, base = time.perf_counter(), _base_predictions(job, suite)
    score_now = partial(score_suite, loss, suite, job.eval_tokens, device, job.stop.check, base, only)
    outcome = _score_base(cache, suite, score_now) if cache else score_now()
    outcome = distributed.from_first(outcome)  # so that all processes decide the same
    scores = outcome.scores
    if job.step > 0 and base is None:  # there is nothing to compare tokens with
        scores = replace(scores, lost=None, gained=None, kl=None, base=None)
    slices = suite.slices if only is None else tuple(suite.slices[i] for i in only if suite.slices)
    return replace(outcome, scores=replace(scores, slices=slices), seconds=time.perf_counter() - started)


def _first_part(job: Job, loss: TaskLoss, suite: Suite) -> np.ndarray | None:
    """Return which examples of a suite this look scores first; None: all of them."""
    if not is_scored_by_token(loss, suite):
        return None
    last, total = job.looks.last_before(job.step), job.plan.total_steps
    return first_part(suite, job.recipe.evals, job.step, last, total)


def _base_predictions(job: Job, suite: Suite) -> BasePredictions | None:
    """Return the first look's predictions; None at the first look, or where its file is gone."""
    if job.step == 0:
        return None
    if not job.looks.has_base(suite.name):  # an earlier attempt took it
        job.looks.add_base(suite.name, scores_file.read(scores_file.path_in(job.run.path, suite), suite))
    return job.looks.base(suite.name)


def _keep_base(job: Job, suite: Suite, scores: Scores) -> None:
    """Keep the first look, for this attempt and for later ones."""
    job.looks.add_base(suite.name, scores.base)
    if scores.base is not None and distributed.rank() == 0:
        scores_file.write(scores_file.path_in(job.run.path, suite), scores)


def _base_cache(job: Job, loss: TaskLoss) -> BaseCache | None:
    """Return the base cache if this evaluation scores the base model."""
    if job.step > 0 or not isinstance(loss, TargetLoss) or not starts_as_base(job.recipe.method):
        return None
    return base_cache_of(job)


def _score_base(cache: BaseCache, suite: Suite, score_now: Callable[[], Outcome]) -> Outcome:
    scores = cache.scores(suite, lambda: score_now().scores)
    return Outcome(scores, scores.measures)

"""One look at a run: every suite scored, a few answers written, flags raised."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator

from engine.evals import scores_file
from engine.evals.base_scores import BasePredictions
from engine.evals.generate import answers, questions
from engine.evals.outcome import Outcome, is_scored_by_token, score_suite
from engine.evals.part_scores import complete, first_part
from engine.evals.score import Scores
from engine.losses.loss import TargetLoss
from engine.losses.packing import unpacked
from engine.losses.task import TaskLoss
from engine.models import distributed
from engine.tasks.prepare import Suite
from engine.training.base_cache import BaseCache, known_of, starts_as_base
from engine.training.flagging import raise_flags
from engine.training.job import Job


def evaluate(job: Job, accelerator: Accelerator, loss_of: TaskLoss) -> str | None:
    """Score all suites, write them, raise flags; the reason if a flag stops the run.

    Nothing is written before everything is scored, so that a cancelled evaluation is simply done again.
    """
    recipe, report = job.recipe, job.report
    report.phase("eval", job.step, ", ".join(suite.name for suite in job.data.suites))
    module = accelerator.unwrap_model(loss_of)
    known, suites = _base_cache(job, module), job.data.suites
    score = partial(_score, job, module, accelerator.device, known)
    job.model.eval()
    with accelerator.autocast():
        found = {suite.name: score(suite, _first_part(job, module, suite)) for suite in suites}
        found = complete(found, suites, job.looks, job.step, score)
        longest = recipe.evals.max_new_tokens
        room = min(job.data.max_length, job.data.longest - longest)
        asked = questions(recipe, job.data.suite("heldout"), job.tokenizer, room)
        with unpacked(job.model), distributed.whole_root(module):
            written = partial(answers, job.model, job.tokenizer, asked, longest, accelerator.device)
            given = distributed.as_first(known.answers(asked, longest, written) if known else written())
    job.model.train()
    job.stop.check()
    texts = [answer.text for answer in given]
    of_texts = job.metrics.measures(texts, [question.reference for question in asked])
    for suite in suites:
        said = found[suite.name]
        if job.step == 0:
            _remember(job, suite, said.scores)
            report.examples(suite)
        measures = said.measures | (of_texts if suite.name == "heldout" else {})
        report.eval(job.step, suite.name, said.scores, measures, said.confusion, said.seconds)
        job.looks.add(job.step, suite.name, said.scores)
    for index, (question, answer) in enumerate(zip(asked, given, strict=True)):
        report.sample(job.step, index, question.prompt, answer.text, answer.ended, question.fits)
        job.looks.add_answer(job.step, answer.text, answer.ended, question.fits)
    return raise_flags(job)


def _score(
    job: Job,
    loss: TaskLoss,
    device: torch.device,
    known: BaseCache | None,
    suite: Suite,
    only: np.ndarray | None,
) -> Outcome:
    """A suite, or the examples at the places `only`, at this step."""
    started, base = time.perf_counter(), _first_look(job, suite)
    scored = partial(score_suite, loss, suite, job.eval_tokens, device, job.stop.check, base, only)
    said = _of_base(known, suite, scored) if known else scored()
    said = distributed.as_first(said)  # so that all processes decide the same
    scores = said.scores
    if job.step > 0 and base is None:  # there is nothing to compare tokens with
        scores = replace(scores, lost=None, gained=None, kl=None, base=None)
    slices = suite.slices if only is None else tuple(suite.slices[i] for i in only if suite.slices)
    return replace(said, scores=replace(scores, slices=slices), seconds=time.perf_counter() - started)


def _first_part(job: Job, loss: TaskLoss, suite: Suite) -> np.ndarray | None:
    """Which examples of a suite this look scores first; None: all of them."""
    if not is_scored_by_token(loss, suite):
        return None
    last, total = job.looks.last_before(job.step), job.plan.total_steps
    return first_part(suite, job.recipe.evals.per_look, job.step, last, total)


def _first_look(job: Job, suite: Suite) -> BasePredictions | None:
    """What the first look said, token by token; None at the first, or where its file is gone."""
    if job.step == 0:
        return None
    if not job.looks.has_base(suite.name):  # an earlier attempt took it
        job.looks.add_base(suite.name, scores_file.read(scores_file.path_in(job.run.path, suite), suite))
    return job.looks.base(suite.name)


def _remember(job: Job, suite: Suite, scores: Scores) -> None:
    """Keep the first look, for this attempt and for later ones."""
    job.looks.add_base(suite.name, scores.base)
    if scores.base is not None and distributed.rank() == 0:
        scores_file.write(scores_file.path_in(job.run.path, suite), scores)


def _base_cache(job: Job, loss: TaskLoss) -> BaseCache | None:
    """Where what the base says is kept, if that is what this evaluation asks."""
    if job.step > 0 or not isinstance(loss, TargetLoss) or not starts_as_base(job.recipe.method):
        return None
    return known_of(job)


def _of_base(known: BaseCache, suite: Suite, scored: Callable[[], Outcome]) -> Outcome:
    scores = known.scores(suite, lambda: scored().scores)
    return Outcome(scores, scores.measures)

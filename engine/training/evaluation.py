"""One look at a run: every suite scored, a few answers written, flags raised."""

from __future__ import annotations

import time

from accelerate import Accelerator

from engine.evals.generate import answers
from engine.evals.score import score
from engine.training.flagging import raise_flags
from engine.training.job import Job
from engine.training.loss import TargetLoss


def evaluate(job: Job, accelerator: Accelerator, loss_of: TargetLoss) -> str | None:
    """Score all suites, write them, raise flags; the reason if a flag stops the run.

    Nothing is written before everything is scored, so that a cancelled evaluation is simply done again.
    """
    recipe, report = job.recipe, job.report
    report.phase("eval", job.step, ", ".join(suite.name for suite in job.data.suites))
    module = accelerator.unwrap_model(loss_of)
    job.model.eval()
    found = []
    with accelerator.autocast():
        for suite in job.data.suites:
            started = time.perf_counter()
            scores = score(module, suite, 2 * recipe.train.micro_tokens, accelerator.device, job.stop.check)
            found.append((suite, scores, time.perf_counter() - started))
        documents = job.data.suite("heldout").documents[: recipe.evals.generate]
        texts = answers(job.model, job.tokenizer, documents, recipe.evals.max_new_tokens, accelerator.device)
    job.model.train()
    job.stop.check()
    for suite, scores, seconds in found:
        if job.step == 0:
            report.examples(suite)
        report.eval(job.step, suite.name, scores, seconds)
        job.looks.add(job.step, suite.name, scores)
    for index, (document, text) in enumerate(zip(documents, texts, strict=True)):
        report.sample(job.step, index, document.prompt, text)
    return raise_flags(job)

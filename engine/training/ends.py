"""What is measured at both ends of a run only: what the model writes to general prompts, multiple-choice questions.

Information for people: no flag reads it. It is measured at step 0 and at the last look, or of the weights that are kept
where a flag stops the run.
"""

from __future__ import annotations

import time
from functools import partial

from accelerate import Accelerator

from engine.evals import drift
from engine.evals.choices import ChoiceSuite, choose
from engine.evals.score import score
from engine.losses.dpo_loss import PairLoss
from engine.losses.loss import TargetLoss
from engine.losses.packing import unpacked
from engine.losses.task import TaskLoss
from engine.models import distributed
from engine.training.base_cache import BaseCache, base_cache_of, starts_as_base
from engine.training.job import Job

DRIFT = "drift"  # among the parts that looks remember; the others are slices of questions


def measure_ends(job: Job, accelerator: Accelerator, loss: TaskLoss, step: int) -> None:
    """Measure and log what is not there yet at the step whose weights the model has. Nothing is measured that was not
    at step 0: there would be nothing to compare it with. Raises Cancelled.
    """
    token_loss = loss.token_loss if isinstance(loss, PairLoss) else loss
    if not isinstance(token_loss, TargetLoss):
        if step == 0 and job.recipe.evals.drift:
            job.report.log("info", "what the model writes is not compared: a classifier writes nothing")
        return
    is_base = step == 0 and starts_as_base(job.recipe.method)
    cache = base_cache_of(job) if is_base else None
    job.model.eval()
    with accelerator.autocast():
        for suite in job.choices:
            if _is_due(job, f"choices.{suite.name}", step):
                _score_choices(job, token_loss, accelerator, cache, suite, step)
        if job.recipe.evals.drift and _is_due(job, DRIFT, step):
            with unpacked(job.model), distributed.whole_root(loss):
                _answer_prompts(job, accelerator, cache, step)
    job.model.train()


def _is_due(job: Job, part: str, step: int) -> bool:
    return not job.looks.has_end(part, step) and (step == 0 or job.looks.has_end(part, 0))


def _score_choices(
    job: Job,
    loss: TargetLoss,
    accelerator: Accelerator,
    cache: BaseCache | None,
    suite: ChoiceSuite,
    step: int,
) -> None:
    job.report.phase("eval", step, suite.options.name)
    started = time.perf_counter()
    score_now = partial(score, loss, suite.options, job.eval_tokens, accelerator.device, job.stop.check)
    chosen = choose(suite, lambda options: cache.scores(options, score_now) if cache else score_now())
    chosen = distributed.from_first(chosen)
    if step == 0:
        job.report.questions(suite)
    job.report.choices(step, chosen, time.perf_counter() - started)
    job.looks.add_end(f"choices.{suite.name}", step)


def _answer_prompts(job: Job, accelerator: Accelerator, cache: BaseCache | None, step: int) -> None:
    most = job.data.longest - drift.MAX_TOKENS
    asked = drift.prompts(job.recipe.evals.drift, job.tokenizer, most)
    if not asked:
        message = f"what the model writes is not compared: no general prompt fits in {most} tokens"
        job.report.log("info", message)
        return
    job.report.phase("eval", step, f"{len(asked)} general prompts")
    written = cache.written(asked) if cache else None
    if written is None:
        device, check = accelerator.device, job.stop.check
        try:
            written = drift.answer(
                job.model, job.tokenizer, asked, job.eval_tokens, device, check, _refuse_dear
            )
        except drift.TooDearError as error:
            job.report.log(
                "info",
                f"what the model writes is not compared: {len(asked)} answers would take about {error.seconds:.0f} s, "
                f"more than {drift.TOO_LONG_S:.0f} s; give a smaller evals.drift, or 0 for none",
            )
            return
        if cache:
            cache.keep_written(asked, written)
    job.report.drift(step, distributed.from_first(written))
    job.looks.add_end(DRIFT, step)


def _refuse_dear(seconds: float) -> None:
    """Raise TooDearError where answers take too long; all of several processes do, or none."""
    if (seconds := distributed.from_first(seconds)) > drift.TOO_LONG_S:
        raise drift.TooDearError(seconds)

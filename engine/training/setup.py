"""Load and check everything that training needs: data, model, tokenizer."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.basics.errors import ModelError
from engine.data.chat import padding
from engine.evals import base_samples, known_slices
from engine.evals.choices import ChoiceSuite, choice_suite
from engine.evals.generate import end_token_ids
from engine.evals.looks import read_looks
from engine.evals.metrics import Metrics
from engine.evals.once import read_or_make
from engine.evals.score import score
from engine.losses.dpo_loss import as_base, keeps_base
from engine.losses.loss import TargetLoss, check_model
from engine.losses.packing import pack, unpacked
from engine.models import distributed, load, skeleton
from engine.models.methods.vectors import initialise_tokens
from engine.models.outline import outline_of
from engine.models.source import check_token
from engine.models.threads import set_threads
from engine.models.tokenizer import load_tokenizer
from engine.recipe.fields import SAMPLES
from engine.recipe.methods import Prefix, Prompt
from engine.recipe.sections import GENERAL, Recipe
from engine.recipe.tasks import Classification
from engine.runs.home import RunDir
from engine.tasks.prepare import Prepared, changed_sources, item_texts
from engine.tasks.prepared_cache import prepare_once
from engine.training.base_cache import BaseCache, base_cache_of, model_key, starts_as_base
from engine.training.beginning import begin_from, keep
from engine.training.job import Job, plan_of
from engine.training.leaking import raise_leaks
from engine.training.meter import Meter
from engine.training.precision import choose_checkpointing, precisions
from engine.training.report import Report
from engine.training.stop import Stop
from engine.training.tried_model import TriedModel


def set_up(
    run: RunDir, attempt: int, recipe: Recipe, resume_from: int | None, report: Report, stop: Stop
) -> Job:
    """Set up the job of an attempt and report its plan. Raises DataError, ModelError, MetricError, Cancelled."""
    distributed.begin()
    stop.check()
    set_threads()
    if problem := distributed.check_gpu():
        report.log("warning", problem)
    step = resume_from or 0
    metrics = Metrics(recipe.evals.metrics, _recipe_directory(run), report.log)

    if outline := outline_of(recipe, skeleton.outline):
        for note in outline.notes:
            report.log("info", note)
    report.phase("data", step, recipe.data.train)
    tokenizer = load_tokenizer(recipe.model)
    data = prepare_once(recipe, tokenizer, _max_tokens(recipe, tokenizer), run.cache("data"))
    for note in [*data.notes, *changed_sources(run, data)]:
        report.log("warning", note)
    stop.check()

    report.phase("loading", step, recipe.model.path)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(recipe.seed)
    dtype = load.precision(recipe.train)
    meter = Meter(recipe.train.memory_limit)
    longest = max(len(example.tokens) for example in data.train)
    checkpointing = choose_checkpointing(recipe, longest, meter.limit, report)
    model = _load_model(run, recipe, data, tokenizer, dtype, checkpointing)
    packed = _check_and_pack(run, recipe, model, dtype, data, report)
    stop.check()

    looks = read_looks(run, attempt, -1 if resume_from is None else resume_from)
    job = Job(
        run=run,
        recipe=recipe,
        data=data,
        model=model,
        tokenizer=tokenizer,
        looks=looks,
        report=report,
        stop=stop,
        dtype=dtype,
        metrics=metrics,
        packed=packed,
        plan=plan_of(recipe, data, packed),
        meter=meter,
        checkpointing=checkpointing,
        choices=_choice_suites(recipe, data, tokenizer, model),
        step=step,
    )
    if recipe.general == GENERAL:
        _leave_out_unknown(job)
    if recipe.general and recipe.evals.samples:
        _add_samples(job)
    _forget_other_rows(job)
    _report_plan(job)
    raise_leaks(job)
    return job


def _max_tokens(recipe: Recipe, tokenizer: Any) -> int:
    """Return the most tokens that an example can have."""
    longest = load.longest(recipe.model, tokenizer)
    if isinstance(recipe.task, Classification):  # an encoder may count positions that no token can have
        longest = min(longest, tokenizer.model_max_length)
    if (max_tokens := longest - recipe.virtual_tokens) < 2:
        raise ModelError(f"key method.tokens: the model takes {longest} tokens in all; give fewer")
    return max_tokens


def _load_model(
    run: RunDir, recipe: Recipe, data: Prepared, tokenizer: Any, dtype: torch.dtype, checkpointing: bool
) -> Any:
    classes = load.Classes(data.labels, padding(tokenizer)) if data.labels else None
    start = begin_from(run, recipe, data)
    model = load.load_model(recipe.model, recipe.method, dtype, checkpointing, classes, start)
    if distributed.rank() == 0:
        keep(run, model, recipe.method)
    if isinstance(recipe.method, Prefix | Prompt):
        text = recipe.method.text
        begin = tokenizer(text, add_special_tokens=False)["input_ids"] if text else None
        initialise_tokens(model, recipe.method, begin or (t for e in data.train for t in e.tokens.tolist()))
    return model.eval()


def _check_and_pack(
    run: RunDir, recipe: Recipe, model: Any, dtype: torch.dtype, data: Prepared, report: Report
) -> bool:
    """Return whether examples can be packed. Raises ModelError for a model that finetui would train wrongly."""
    check_token(recipe.model.path, data.largest_token, model.get_input_embeddings().weight.shape[0])
    if isinstance(recipe.task, Classification):
        return False
    tried = TriedModel(run, recipe, model, dtype)
    known = tried.packed
    with _training_autocast(dtype):
        if known is None:
            check_model(recipe.model.path, TargetLoss(model))
        packed = pack(model, known)
    if known is None:
        tried.keep(packed)
    if not packed:
        report.log("info", "examples are padded, not packed: this model or method cannot take packed rows")
    return packed


def _choice_suites(recipe: Recipe, data: Prepared, tokenizer: Any, model: Any) -> list[ChoiceSuite]:
    """Tokenise the multiple-choice questions. Raises ModelError for a token that the model does not have."""
    suites = [choice_suite(one, tokenizer, data.longest) for one in data.choices]
    for suite in suites:
        largest = max(int(example.tokens.max()) for example in suite.options.examples)
        check_token(recipe.model.path, largest, model.get_input_embeddings().weight.shape[0])
    return suites


def _training_autocast(dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(load.device().type, dtype, enabled=dtype == torch.bfloat16)


def _check_alone(job: Job) -> Callable[[], None]:
    """Return what the first of several processes may call while the others wait: to give up, all would have to."""
    return job.stop.check if distributed.world() == 1 else lambda: None


def _leave_out_unknown(job: Job) -> None:
    """Leave out the slices of the general text that comes along which the base model does not know."""
    recipe, general = job.recipe, job.data.suite("general")
    check = _check_alone(job)

    def decide() -> list[str]:
        probed, loss = known_slices.probes(general), TargetLoss(job.model, job.packed)
        is_base = starts_as_base(recipe.method) or keeps_base(recipe.method)
        cache = base_cache_of(job) if is_base else None
        score_now = partial(score, loss, probed, job.eval_tokens, load.device(), check)
        with _training_autocast(job.dtype), as_base(job.model, recipe.method):
            scores = cache.scores(probed, score_now) if cache else score_now()
        return known_slices.unknown_slices(general, probed, scores)

    path, may_decide = job.run.path / known_slices.FILE, not job.looks.has(0)
    is_first = distributed.rank() == 0
    unknown = read_or_make(path, known_slices.KEY, str, decide, may_decide) if is_first else []
    if unknown := distributed.from_first(unknown):
        job.data = known_slices.without(job.data, unknown)
        job.report.log(
            "info",
            f"general text that the base model does not know is not watched: {', '.join(unknown)} (it predicts the "
            "text hardly better than how often each byte occurs); name sources in evals.general to choose others",
        )


def _add_samples(job: Job) -> None:
    """Add texts sampled from the base model as a suite, unless a look was taken without them."""
    # An older finetui had them in the general suite.
    if job.looks.has(0) and job.looks.history(SAMPLES) is None:
        job.report.log(
            "info",
            "the distance from the base model is not measured: it was not at the run's first evaluation",
        )
        return
    recipe, model, tokenizer, count = job.recipe, job.model, job.tokenizer, job.recipe.evals.samples
    if tokenizer.bos_token_id is None:
        job.report.log(
            "info", "no texts of the base model are watched: it has no beginning-of-sequence token"
        )
        return

    def draw() -> list[list[int]]:
        # Sampled by the first run on a base, whatever its number format: runs that share them can be compared.
        cache = BaseCache(job.run, model_key(recipe.model.path, model))
        compute = partial(base_samples.draw, model, tokenizer, count, load.device(), _check_alone(job))
        with _training_autocast(job.dtype), unpacked(model), as_base(model, recipe.method):
            return cache.samples(count, compute)

    path, may_draw = job.run.path / "base-samples.json", not job.looks.has(0)
    is_first = distributed.rank() == 0
    samples = read_or_make(path, "samples", _tokens, draw, may_draw) if is_first else []
    ends = end_token_ids(model, tokenizer) or []
    job.data = base_samples.with_samples(job.data, distributed.from_first(samples), tokenizer, ends)


def _tokens(text: Any) -> list[int]:
    return [int(token) for token in text]


def _forget_other_rows(job: Job) -> None:
    """Leave out the earlier evaluations of suites whose rows have changed, and say so."""
    changed = []
    for suite in job.data.suites:
        texts = {item.id: item_texts(item)[0].targets for item in suite.examples}
        if job.looks.forget_other_rows(suite.name, texts):
            changed.append(suite.name)
            job.report.examples(suite)
    if changed:
        job.report.log(
            "warning",
            f"the data of {', '.join(changed)} have changed since the run was evaluated before: from step {job.step} "
            "on, results are of other rows, are not compared with earlier ones, and raise no flag",
        )


def _report_plan(job: Job) -> None:
    recipe, data = job.recipe, job.data
    job.report.plan(
        total_steps=job.plan.total_steps,
        tokens_per_step=recipe.train.tokens_per_step,
        train_examples=len(data.train),
        heldout_examples=len(data.suite("heldout").examples),
        train_set=data.train_set,
        heldout_set=data.heldout_set,
        heldout_tokens=sum(item.targets for item in data.suite("heldout").examples),
        parameters=load.count_parameters(job.model),
        trainable=load.count_parameters(job.model, trained_only=True),
        precision="bf16" if job.dtype == torch.bfloat16 else "fp32",
        device=(f"{recipe.processes} × " if recipe.processes > 1 else "") + load.device_label(),
        max_length=data.max_length,
        activation_checkpointing=job.checkpointing,
        **({"labels": data.labels} if data.labels else {}),
    )
    job.report.log("info", precisions(job.model, job.dtype, job.checkpointing))


def _recipe_directory(run: RunDir) -> Path:
    """Return the recipe's folder, for files beside it."""
    path = json.loads(run.meta.read_text()).get("recipe_path")
    return Path(path).parent if path else Path.cwd()

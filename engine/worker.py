"""One attempt of a run: `python -P -m engine.worker RUN_DIR ATTEMPT`.

Reads the recipe from `run.json`, trains, and only ever appends to its own log. Exit codes: 0 finished,
3 cancelled after saving, 4 failed for a reason that `end` tells, 5 paused because the disk is full, 1 failed
for a reason that nobody foresaw.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from engine import disk, processes
from engine.home import RunDir
from engine.method_settings import WHOLE_MODEL, Prefix, Prompt
from engine.recipe import Recipe
from engine.task_settings import Classification
from engine.training.stop import Cancelled, Stop

if TYPE_CHECKING:
    from engine.training.job import Job
    from engine.training.report import Report

FINISHED, UNFORESEEN, CANCELLED, FAILED, DISK_FULL = 0, 1, 3, 4, 5


def main(run_dir: str, attempt: int) -> int:
    """Run one attempt to its end; the exit code."""
    run = RunDir(Path(run_dir).absolute())
    count = json.loads(run.meta.read_text())["recipe"].get("processes", 1)
    if count > 1 and processes.RANKS not in os.environ:
        return processes.launch(run, run.attempt(attempt), count)
    stop = Stop()
    stop.listen()
    try:
        log = processes.open_log(run, run.attempt(attempt))
        # Said before the imports, which take seconds.
        log.write("phase", phase="loading", step=0, detail="")
    except OSError as error:
        if disk.is_full(error):
            return DISK_FULL
        raise
    from engine.training import distributed
    from engine.training.report import Report

    report = Report(log)
    attempt_at = Attempt(run, attempt, report, stop)
    try:
        attempt_at.go()
        return FINISHED
    except Cancelled:
        report.end("cancelled", attempt_at.step)
        return CANCELLED
    except Exception as error:
        if disk.is_full(error):
            return _pause(error, report, attempt_at)
        return _fail(error, report, attempt_at.step)
    finally:
        log.close()
        distributed.end()


class Attempt:
    """From the recipe to saved weights."""

    def __init__(self, run: RunDir, number: int, report: Report, stop: Stop) -> None:
        self.run, self.number, self.report, self.stop = run, number, report, stop
        self.job: Job | None = None

    @property
    def step(self) -> int:
        return self.job.step if self.job else 0

    def go(self) -> None:
        """Raises Cancelled and whatever went wrong."""
        meta = json.loads(self.run.meta.read_text())
        recipe = Recipe.model_validate(meta["recipe"])
        if Path(meta.get("cwd") or ".").is_dir():  # paths in the recipe start where it was submitted
            os.chdir(meta.get("cwd") or ".")
        found = self.run.last_checkpoint() if self.number > 1 else None
        resume_from = found[0] if found else None
        if self.number > 1:
            self.report.resume(-1 if resume_from is None else resume_from)
        self.job = self._load(recipe, resume_from)

        from engine.training.loop import train

        reason = train(self.job, resume_from)
        self._save_weights(recipe)
        self.report.end("finished", self.step, reason=reason)

    def _load(self, recipe: Recipe, resume_from: int | None) -> Job:
        """Data, tokenizer, model; tells the plan."""
        import numpy as np
        import torch

        from engine.data.chat import padding
        from engine.evals.looks import read_back
        from engine.evals.metrics import Metrics
        from engine.methods import load
        from engine.methods.vectors import begin_as
        from engine.tasks.prepare import prepare
        from engine.training import distributed
        from engine.training.job import Job, plan_of
        from engine.training.loss import TargetLoss
        from engine.training.meter import Meter
        from engine.training.packing import pack
        from engine.training.precision import chosen_checkpointing, precisions

        distributed.begin()
        self.stop.agree = distributed.agree
        self.stop.check()
        if threads := os.environ.get("OMP_NUM_THREADS"):
            torch.set_num_threads(int(threads))
        quiet_libraries()
        report, step = self.report, resume_from or 0
        metrics = Metrics(recipe.evals.metrics, self._recipe_directory(), report.log)

        report.phase("data", step, recipe.data.train)
        tokenizer = load.load_tokenizer(recipe.model)
        longest = load.longest(recipe.model, tokenizer)
        if isinstance(recipe.task, Classification):  # an encoder may count positions that no token can have
            longest = min(longest, tokenizer.model_max_length)
        if (room := longest - recipe.virtual_tokens) < 2:
            raise load.ModelError(f"key method.tokens: the model takes {longest} tokens in all; give fewer")
        data = prepare(recipe, tokenizer, room)
        for note in data.notes:
            report.log("warning", note)
        self.stop.check()

        report.phase("loading", step, recipe.model.path)
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(recipe.seed)
        dtype = load.precision(recipe.train)
        classes = load.Classes(data.labels, padding(tokenizer)) if data.labels else None
        meter = Meter(recipe.train.memory_limit)
        longest = max(len(example.tokens) for example in data.train)
        checkpointing = chosen_checkpointing(recipe, longest, meter.limit, report)
        model = load.load_model(recipe.model, recipe.method, dtype, checkpointing, classes)
        if isinstance(recipe.method, Prefix | Prompt):
            text = recipe.method.text
            begin = tokenizer(text, add_special_tokens=False)["input_ids"] if text else None
            begin_as(model, recipe.method, begin or (t for e in data.train for t in e.tokens.tolist()))
        with torch.autocast(load.device().type, dtype, enabled=dtype == torch.bfloat16):  # as in training
            known = bool(classes) or TargetLoss(model.eval()).same_as_model()
            packed = known and not classes and pack(model)
        if not known:
            raise load.ModelError(
                f"model {recipe.model.path}: computes its logits in a way finetui does not know"
            )
        if not packed and not classes:
            report.log(
                "info", "examples are padded, not packed: this model or method cannot take packed rows"
            )
        if data.largest_token >= (rows := model.get_input_embeddings().weight.shape[0]):
            raise load.ModelError(
                f"model {recipe.model.path}: its tokenizer writes token {data.largest_token}, "
                f"but the model knows only {rows}; use the tokenizer that belongs to the model"
            )
        self.stop.check()

        looks = read_back(self.run, self.number, -1 if resume_from is None else resume_from)
        job = Job(
            self.run,
            recipe,
            data,
            model,
            tokenizer,
            looks,
            report,
            self.stop,
            dtype,
            metrics,
            packed,
            meter,
            checkpointing,
            step,
        )
        report.plan(
            total_steps=plan_of(job).total_steps,
            tokens_per_step=recipe.train.tokens_per_step,
            train_examples=len(data.train),
            heldout_examples=len(data.suite("heldout").examples),
            parameters=load.count_parameters(model),
            trainable=load.count_parameters(model, trained_only=True),
            precision="bf16" if dtype == torch.bfloat16 else "fp32",
            device=(f"{recipe.processes} × " if recipe.processes > 1 else "") + load.device_label(),
            max_length=data.max_length,
            activation_checkpointing=checkpointing,
            **({"labels": data.labels} if data.labels else {}),
        )
        report.log("info", precisions(model, dtype, checkpointing))
        return job

    def _recipe_directory(self) -> Path:
        """Where the recipe was, for what stands beside it."""
        path = json.loads(self.run.meta.read_text()).get("recipe_path")
        return Path(path).parent if path else Path.cwd()

    def _save_weights(self, recipe: Recipe) -> None:
        """`model/` or `adapter/`, as plain transformers, PEFT and `bottleneck.load` read them."""
        from engine.methods import load
        from engine.training import distributed
        from engine.training.checkpoint import put_weights, tensor_bytes, trained_weights, write_directory

        assert self.job is not None
        model, tokenizer = self.job.model, self.job.tokenizer
        weights = trained_weights(model)
        if distributed.rank() > 0:
            return distributed.wait()
        if distributed.is_cut(model):  # a model of its own, since libraries save whole ones only
            model = load.load_model(recipe.model, recipe.method, self.job.dtype)
            put_weights(weights, model)
        path = self.run.path / ("model" if recipe.method.name in WHOLE_MODEL else "adapter")

        def fill(directory: Path) -> None:
            load.save_model(model, recipe.method, directory)
            tokenizer.save_pretrained(directory)

        self.report.phase("saving", self.step, path.name)
        if path.name == "model":
            weights = dict(model.named_parameters())
        write_directory(path, fill, tensor_bytes(weights))
        return distributed.wait()


def quiet_libraries() -> None:
    """Keep what libraries say to their developers out of the text that people read."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of an optional kernel package


def _pause(error: Exception, report: Report, attempt: Attempt) -> int:
    """Tell of a full disk, in the room that was kept for this."""
    disk.release(attempt.run.attempt(attempt.number))
    with suppress(OSError):  # the exit code tells it as well
        report.end("paused", attempt.step, reason=disk.told(error, attempt.run.path))
    return DISK_FULL


def _fail(error: Exception, report: Report, step: int) -> int:
    """Tell why the attempt failed: a sentence if it was foreseen, else a traceback as well."""
    from engine.data.sources import DataError
    from engine.evals.metrics import MetricError
    from engine.methods.load import ModelError
    from engine.training import distributed
    from engine.training.checkpoint import RestoreError, SaveError
    from engine.training.distributed import ProcessesError
    from engine.training.loop import TrainingError

    if distributed.is_loss(error):  # of another process, which has more to say
        report.end("lost", step, error=str(error))
        return UNFORESEEN
    foreseen = (
        DataError | MetricError | ModelError | ProcessesError | RestoreError | SaveError | TrainingError
    )
    told = isinstance(error, foreseen)
    message = str(error) if told else _out_of_memory(error)
    code = FAILED if message else UNFORESEEN
    if not message:
        traceback.print_exc(file=sys.stdout if distributed.rank() == 0 else sys.stderr)
        message = traceback.format_exception_only(error)[-1].strip()
    report.end("failed", step, error=message)
    return code


def _out_of_memory(error: Exception) -> str:
    import torch

    on_cpu = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
    if not on_cpu and not isinstance(error, torch.OutOfMemoryError):
        return ""
    return (
        f"out of {'memory' if on_cpu else 'GPU memory'}: lower train.micro_tokens or train.max_length, "
        "or use method.name=qlora"
    )


if __name__ == "__main__":
    ended = main(sys.argv[1], int(sys.argv[2]))
    # torchrun takes every other code for a failure, and kills the rest of the processes.
    sys.exit(FINISHED if ended == CANCELLED and processes.RANKS in os.environ else ended)

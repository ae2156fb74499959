"""One attempt of a run: `python -P -m finetui.start engine.attempt.worker RUN_DIR ATTEMPT`.

Reads the recipe from `run.json`, trains, and only ever appends to its own log. Its exit codes are in store/states.py.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from engine.attempt import ranks
from engine.recipe.methods import WHOLE_MODEL
from engine.recipe.sections import Recipe
from engine.runs import disk
from engine.runs.checkpoints import set_aside_damaged
from engine.runs.home import RunDir
from engine.training.stop import Cancelled, Stop
from finetui.errors import FinetuiError
from finetui.log import LogWriter
from store.line_fields import write
from store.lines import Log, Phase, Timing
from store.states import RunState, WorkerExit

if TYPE_CHECKING:
    from engine.training.job import Job
    from engine.training.report import Report


def main(run_dir: str, attempt: int) -> int:
    """Run one attempt to its end; return the exit code."""
    run = RunDir(Path(run_dir).absolute())
    count = json.loads(run.meta.read_text())["recipe"].get("processes", 1)
    is_rank = ranks.RANKS in os.environ
    stop = Stop(_any_process)
    if is_rank or count == 1:
        stop.listen()
    try:
        if attempt > 1 and not is_rank:
            _set_aside_damaged(run, attempt)
        if count > 1 and not is_rank:
            return ranks.launch(run, run.attempt(attempt), count)
        log = ranks.open_log(run, run.attempt(attempt))
        # Logged before the imports, which take seconds.
        write(log, Phase("loading", step=0, detail=""))
    except OSError as error:
        if disk.is_full(error):
            return WorkerExit.DISK_FULL
        raise
    from engine.models import distributed
    from engine.training.report import Report

    report = Report(log)
    this_attempt = Attempt(run, attempt, report, stop)
    try:
        report.begin()
        this_attempt.go()
        return WorkerExit.FINISHED
    except Cancelled:
        report.end(RunState.CANCELLED, this_attempt.step, timing=this_attempt.timing)
        return WorkerExit.CANCELLED
    except Exception as error:
        if disk.is_full(error):
            return _pause(error, report, this_attempt)
        return _fail(error, report, this_attempt.step)
    finally:
        log.close()
        distributed.end()


def _set_aside_damaged(run: RunDir, attempt: int) -> None:
    """Set damaged checkpoints aside before a resume, in one process for all: the last sound one becomes the last."""
    sentences = set_aside_damaged(run)
    if not sentences:
        return
    log = LogWriter(run.attempt(attempt).events, "worker", run.number, attempt)
    for sentence in sentences:
        write(log, Log("warning", sentence))
        print(f"warning: {sentence}", flush=True)
    log.close()


def _any_process(requested: bool) -> bool:
    """Whether any process of this attempt was asked to stop."""
    from engine.models import distributed  # takes seconds: signals are listened to before

    return distributed.agree(requested)


class Attempt:
    """One attempt, from the recipe to saved weights."""

    def __init__(self, run: RunDir, number: int, report: Report, stop: Stop) -> None:
        self.run, self.number, self.report, self.stop = run, number, report, stop
        self.job: Job | None = None

    @property
    def step(self) -> int:
        return self.job.step if self.job else 0

    @property
    def timing(self) -> Timing | None:
        """What training and looks have cost so far."""
        return self.job.timing if self.job else None

    def go(self) -> None:
        """Train and save. Raises Cancelled, and any error as it is."""
        meta = json.loads(self.run.meta.read_text())
        recipe = Recipe.model_validate(meta["recipe"])
        if Path(meta.get("cwd") or ".").is_dir():  # paths in the recipe start where it was submitted
            os.chdir(meta.get("cwd") or ".")
        checkpoint = self.run.last_checkpoint() if self.number > 1 else None
        resume_from = checkpoint[0] if checkpoint else None
        if self.number > 1:
            self.report.resume(-1 if resume_from is None else resume_from)

        gc.disable()  # imports make a million objects that stay: collecting garbage among them takes a second
        from engine.models.quiet import quiet_libraries

        quiet_libraries()  # before PEFT imports bitsandbytes
        from engine.training.loop import train
        from engine.training.setup import set_up

        gc.freeze()  # and 0.3 s more at every collection from now on
        gc.enable()
        self.job = set_up(self.run, self.number, recipe, resume_from, self.report, self.stop)

        stopped = train(self.job, resume_from)
        self._save_weights(recipe)
        if stopped:
            self.report.end(
                RunState.FINISHED,
                self.step,
                reason=stopped.reason,
                kept_step=stopped.kept_step,
                timing=self.job.timing,
            )
        else:
            self.report.end(RunState.FINISHED, self.step, timing=self.job.timing)

    def _save_weights(self, recipe: Recipe) -> None:
        """Save `model/` or `adapter/`, as plain transformers, PEFT and `bottleneck.load` read them."""
        from engine.models import distributed, load
        from engine.training import beginning
        from engine.training.checkpoint import put_weights, tensor_bytes, trained_weights, write_directory

        assert self.job is not None
        model, tokenizer = self.job.model, self.job.tokenizer
        weights = trained_weights(model)
        if distributed.rank() > 0:
            return distributed.wait()
        if distributed.is_sharded(model):  # a model of its own, since libraries save whole ones only
            start = beginning.kept(self.run, recipe.method)
            model = load.load_model(recipe.model, recipe.method, self.job.dtype, start=start)
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


def _pause(error: Exception, report: Report, attempt: Attempt) -> int:
    """Report a full disk, in the space that was reserved for this."""
    disk.release(attempt.run.attempt(attempt.number))
    with suppress(OSError):  # the exit code reports it too
        report.end(RunState.PAUSED, attempt.step, reason=disk.pause_reason(error, attempt.run.path))
    return WorkerExit.DISK_FULL


def _fail(error: Exception, report: Report, step: int) -> int:
    """Report why the attempt failed: a sentence if it was foreseen, else a traceback too."""
    from engine.models import distributed

    if distributed.is_lost_process(error):  # of another process, which reports the cause
        report.end(ranks.LOST, step, error=str(error))
        return WorkerExit.UNFORESEEN
    from engine.attempt.transient import is_transient

    message = str(error) if isinstance(error, FinetuiError) else _out_of_memory(error)
    code = WorkerExit.FAILED if message else WorkerExit.UNFORESEEN
    if not message:
        traceback.print_exc(file=sys.stdout if distributed.rank() == 0 else sys.stderr)
        message = traceback.format_exception_only(error)[-1].strip()
    report.end(RunState.FAILED, step, error=message, transient=is_transient(error) or None)
    return code


def _out_of_memory(error: Exception) -> str:
    import torch

    from engine.training.memory_guard import is_out_of_memory

    if not is_out_of_memory(error):
        return ""
    memory = "GPU memory" if isinstance(error, torch.OutOfMemoryError) else "memory"
    return f"out of {memory}: lower train.micro_tokens or train.max_length, or use method.name=qlora"


if __name__ == "__main__":
    ended = main(sys.argv[1], int(sys.argv[2]))
    # torchrun takes every other code for a failure, and kills the rest of the processes.
    sys.exit(WorkerExit.FINISHED if ended == WorkerExit.CANCELLED and ranks.RANKS in os.environ else ended)

"""Keep training within the available memory.

Before the first step a forward and backward pass of the largest batch is measured, and `micro_tokens` is lowered
until it fits; the tokens of an optimiser step stay the same. What an earlier run of the same shape measured is believed
where it leaves much room (engine/training/probe_cache.py). A step that runs out of memory later on is repeated
from its start in smaller passes. None of this changes what is learned: gradients are cleared, random states restored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from engine.basics.errors import ShortageError, TrainingError
from engine.basics.wording import size
from engine.models.random_states import random_states, set_random_states
from engine.training.checkpoint import tensor_bytes
from engine.training.job import Job
from engine.training.memory_forecast import Largest, MemoryForecast
from engine.training.meter import mib, trim_heap
from engine.training.probe_cache import ROOM, ProbeCache
from finetui.errors import first_line

TOO_LARGE = 1.25  # of the limit, by the estimate


class OverLimitError(MemoryError):
    """More is resident than `train.memory_limit`, or the machine, allows."""


class MemoryGuard:
    """Watches the memory of one attempt; what it decides is `job.micro_tokens`."""

    def __init__(self, job: Job, optimiser: torch.optim.Optimizer, processes: int = 1) -> None:
        self._job, self._plan, self._optimiser, self._meter = job, job.plan, optimiser, job.meter
        self._processes = processes
        targets = np.array([example.targets for example in job.data.train])
        self._forecast = MemoryForecast(job.recipe, job.plan, targets, self._meter.device, job.checkpointing)
        self._longest = max(job.plan.lengths)
        self._rows = 0  # examples of the forward pass that is under way
        self._probed = 0  # peak of the probe, bytes
        self._held = 0  # before the pass of the probe, bytes

    # ---- before the first step -----------------------------------------------------------------------

    def probe(self, backward: Callable[[np.ndarray], object]) -> None:
        """Lower `micro_tokens` until the largest batch fits. `backward` does a forward and a backward pass.

        Raises TrainingError if not even one example fits.
        """
        if not self._job.recipe.train.memory_probe or not self._meter.can_reset or self._processes > 1:
            return  # several processes would have to agree
        largest, cache = self._largest_that_may_fit(), ProbeCache(self._job)
        taken = cache.read(largest)
        if taken is not None and self._meter.held + taken <= ROOM * self._meter.limit:
            self._probed = self._meter.held + taken
            return
        while (peak := self._measure(backward, largest.chosen)) is None or peak > self._meter.limit:
            if len(largest.chosen) == 1:
                raise TrainingError(self._does_not_fit(largest.longest, peak))
            self._lower(largest.tokens)
            largest = self._forecast.largest(self._job.micro_tokens)
        self._probed = peak
        cache.write(largest, max(0, peak - self._held))

    def _largest_that_may_fit(self) -> Largest:
        """Return the largest pass that may fit: a process that takes more than a CPU has is killed silently."""
        largest = self._forecast.largest(self._job.micro_tokens)
        while not self._meter.cuda and len(largest.chosen) > 1:
            if (self._forecast.predicted(largest) or 0) <= TOO_LARGE * self._meter.limit:
                break
            self._lower(largest.tokens)
            largest = self._forecast.largest(self._job.micro_tokens)
        return largest

    def _measure(self, backward: Callable[[np.ndarray], object], chosen: np.ndarray) -> int | None:
        """Measure the peak of a pass, bytes, beside the memory that the optimiser will hold; None: out of memory."""
        states = random_states()
        self._meter.reset()
        self._held = self._meter.held
        try:
            optimiser = torch.ones(self._missing_state(), dtype=torch.uint8, device=self._meter.device)
            backward(chosen)
            peak = self._meter.peak
            del optimiser
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            peak = None
        self._optimiser.zero_grad(set_to_none=True)
        self._meter.reset(count=peak is not None and peak <= self._meter.limit)
        set_random_states(states)
        return peak

    def _missing_state(self) -> int:
        """Return the bytes that the optimiser will allocate at its first step; 0 after it."""
        trained = sum(p.numel() for p in self._job.model.parameters() if p.requires_grad)
        return max(0, self._forecast.optimiser_bytes(trained) - tensor_bytes(self._optimiser.state_dict()))

    # ---- steps and evaluations -----------------------------------------------------------------------

    @contextmanager
    def watching(self, rows: int) -> Iterator[None]:
        """Watch the forward and backward pass of `rows` examples inside. Raises OverLimitError."""
        self._rows = rows
        yield
        if self._meter.over:
            resident, allowed = size(self._meter.peak), size(self._meter.limit)
            raise OverLimitError(f"{resident} are resident, {allowed} are allowed")

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Watch the optimiser's step inside, which cannot be repeated. Raises ShortageError."""
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise ShortageError(
                "out of memory while the weights were updated: use a method that trains fewer weights, "
                "or train.optimiser=adamw8bit"
            ) from error

    def shortage(self, error: Exception) -> str:
        """Return the message of an out-of-memory error; raise any other, and all with several processes."""
        if self._processes > 1 or not is_out_of_memory(error):
            raise error
        return first_line(error)

    def split_finer(self, passes: Sequence[np.ndarray], reason: str) -> None:
        """Lower `micro_tokens` after a shortage in a step. Raises ShortageError if that had one example."""
        if self._rows == 1:
            raise ShortageError(self._does_not_fit(self._longest))
        self._lower_and_report(max(map(self._plan.tokens_of, passes)), reason)

    def before_evaluation(self) -> None:
        trim_heap()  # training and scoring make tensors of other sizes: the holes of one are of no use to the other

    def evaluate_fewer(self, reason: str) -> None:
        """Lower `micro_tokens` after a shortage in an evaluation. Raises ShortageError if it scored single examples."""
        if self._job.eval_tokens <= self._longest:
            raise ShortageError(self._does_not_fit(self._longest))
        self._lower_and_report(self._job.micro_tokens, reason)

    def after_evaluation(self) -> None:
        """Lower `micro_tokens` if it took more than allowed; several processes would each split differently."""
        trim_heap()
        if self._meter.over and self._processes == 1 and self._job.eval_tokens > self._longest:
            self._lower_and_report(self._job.micro_tokens, "an evaluation took more than allowed")

    def _lower_and_report(self, tokens: int, reason: str) -> None:
        before, peak = self._job.micro_tokens, self._meter.peak
        self._meter.reset(count=False)
        self._lower(tokens)
        self._job.report.log(
            "warning",
            f"out of memory after step {self._job.step} ({reason}): train.micro_tokens goes from {before} down to "
            f"{self._job.micro_tokens}, with as many tokens per optimiser step as before; the step is repeated",
        )
        self._report("out_of_memory", peak)

    def _lower(self, tokens: int) -> None:
        """Set `micro_tokens` to half of a pass of `tokens` tokens."""
        self._job.micro_tokens = max(1, min(self._job.micro_tokens, tokens) // 2)

    def _does_not_fit(self, tokens: int, needed_bytes: int | None = None) -> str:
        needs = f", it needs {size(needed_bytes)}" if needed_bytes else ""
        return (
            f"out of memory: an example of {tokens} tokens alone does not fit into {size(self._meter.limit)}{needs}; "
            "lower train.max_length, set train.activation_checkpointing=true, or use method.name=qlora"
        )

    # ---- what is written down ------------------------------------------------------------------------

    @property
    def peak_mb(self) -> float:
        """The peak of the attempt so far, MiB."""
        return mib(self._meter.highest)

    def report_probe(self) -> None:
        """Report the peak before the first step, evaluation included, which held no optimiser's state yet."""
        if self._probed:
            self._report("probe", max(self._probed, self._meter.peak + self._missing_state()))

    def report_end(self) -> None:
        """Report the peak of the whole attempt."""
        self._report("end", self._meter.highest)

    def _report(self, cause: str, measured: int) -> None:
        predicted = self._forecast.predicted(self._forecast.largest(self._job.micro_tokens))
        self._job.report.memory(
            step=self._job.step,
            cause=cause,
            predicted_mb=mib(predicted) if predicted else None,
            measured_mb=mib(measured),
            limit_mb=mib(self._meter.limit),
            micro_tokens=self._job.micro_tokens,
            device=self._meter.device,
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: CUDA's, the system's, or the allowed limit."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)

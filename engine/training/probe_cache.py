"""What the probe of the largest pass measured, kept for the next run of the same shape in the same home.

Kept is what a pass takes beyond what is held before it: that depends on the model, the method, the pass and the
libraries, and not on the rate, the seed or the data. A run believes it only where that leaves much room; else it
measures for itself.
"""

from __future__ import annotations

import json
from typing import Any

import torch

from engine.basics import cache_files
from engine.training.base_cache import loaded_key
from engine.training.job import Job
from engine.training.memory_forecast import Largest
from finetui.daemon import code_version

MAX_FILES, MAX_PASSES = 500, 20
ROOM = 0.8  # of the limit, that a pass may take and still be believed
ALIKE = 0.95  # of a pass: one that was so large at least is taken for it,
MARGIN = 1.1  # and to have taken so much more


class ProbeCache:
    """The measurements of passes like those of one job."""

    def __init__(self, job: Job) -> None:
        train = job.recipe.train
        device = torch.cuda.get_device_name() if job.meter.cuda else f"cpu {torch.get_num_threads()}"
        name = loaded_key(
            job.recipe,
            job.model,
            job.recipe.task.model_dump_json(),
            f"{job.dtype} {job.checkpointing} {job.packed} {train.optimiser} {train.compile} {train.memory_limit}",
            device,
            code_version(),
        )
        directory = job.run.cache("probe")
        self._path = directory / f"{name}.json" if directory else None

    def read(self, largest: Largest) -> int | None:
        """Return the bytes that such a pass takes beyond what is held; None where none so large was measured."""
        wanted = _shape(largest)
        taken = [
            one["bytes"]
            for one in self._passes()
            if all(had >= ALIKE * need for had, need in zip(one["shape"], wanted, strict=True))
        ]
        return round(MARGIN * min(taken)) if taken else None

    def write(self, largest: Largest, taken: int) -> None:
        """Keep what a pass took, bytes."""
        if self._path is None:
            return
        passes = [*self._passes(), {"shape": _shape(largest), "bytes": taken}]
        cache_files.write(self._path, json.dumps(passes[-MAX_PASSES:]).encode(), MAX_FILES)

    def _passes(self) -> list[Any]:
        """Return the passes that were measured; none where the file is missing or damaged."""
        try:
            passes = json.loads(cache_files.read(self._path)) if self._path else []
            return [{"shape": list(map(int, one["shape"])), "bytes": int(one["bytes"])} for one in passes]
        except (KeyError, TypeError, ValueError):
            return []


def _shape(largest: Largest) -> list[int]:
    return [len(largest.chosen), largest.tokens, largest.longest, largest.targets]

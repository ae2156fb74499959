"""Which errors a run is tried again after."""

from __future__ import annotations

import pytest
import torch

from engine.attempt.transient import is_transient
from engine.basics.errors import DataError, ShortageError, TrainingError


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (ShortageError("out of memory: an example of 900 tokens alone does not fit"), True),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), True),
        (RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"), True),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (TrainingError("out of memory: an example does not fit"), False),
        (DataError("train.jsonl, line 2: no answer"), False),
        (ValueError("busy or unavailable"), False),
    ],
)
def test_a_lost_gpu_and_memory_that_others_held_are_transient(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient

"""The threads that torch computes with."""

from __future__ import annotations

import os

import torch

from engine.basics.cpu import physical_cores


def set_threads() -> None:
    """Let torch use the threads that the environment names, else a thread for each core.

    Also where nothing changes, and before any model is loaded: a fork of the pool has the one thread of the pool, and
    torch makes its threads anew at the first use, which must not be in the threads that load weights, in all at once.
    """
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or physical_cores()))

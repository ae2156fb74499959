"""Get and set the states of every random generator that training draws from."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
import torch


class RandomStates(NamedTuple):
    """The states of every random generator that training draws from."""

    plain: dict[str, Any]  # Python's and numpy's, as JSON takes them
    tensors: dict[str, Any]  # PyTorch's


def random_states() -> RandomStates:
    name, keys, *rest = np.random.get_state(legacy=True)
    plain = {"python": random.getstate(), "numpy": [name, np.asarray(keys).tolist(), *rest]}
    cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []  # of this process's GPU
    return RandomStates(plain, {"cpu": torch.get_rng_state(), "cuda": cuda})


def set_random_states(states: RandomStates) -> None:
    version, internal, gauss = states.plain["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = states.plain["numpy"]
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states.tensors["cpu"])
    if states.tensors["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(states.tensors["cuda"][0])

"""What a method makes of the base model or of the data before the first step, and does not train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from engine.recipe.methods import Lora, Method, Osf, Shira


@dataclass(frozen=True)
class Text:
    """A tokenised text to begin from."""

    tokens: np.ndarray  # int32 [length]
    learned: np.ndarray  # bool [length]: whether the token is a target


@dataclass(frozen=True)
class Start:
    """What an adapter begins from: what an earlier attempt of the run made, by name, or texts to make it of."""

    made: dict[str, torch.Tensor] | None = None
    texts: Sequence[Text] = field(default=())


NOTHING = Start()


def makes_start(method: Method) -> bool:
    """Whether a method makes something that a run has to keep."""
    return isinstance(method, Shira | Osf) or (isinstance(method, Lora) and method.learns_from_data)

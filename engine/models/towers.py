"""Towers beside the text model (vision, audio): a loss on text never runs them, so they are frozen.

Trainable weights without gradients would be counted, saved and, with several processes, waited for.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def freeze_towers(model: Any) -> None:
    """Freeze the towers of a language model that was just loaded."""
    text = text_weights(model)
    for parameter in model.parameters():
        if id(parameter) not in text:
            parameter.requires_grad_(False)


def linear_in_towers(model: Any) -> list[str]:
    """Return the paths of the linear layers that no text runs through."""
    text = text_weights(model)
    linear = ((path, module) for path, module in model.named_modules() if isinstance(module, nn.Linear))
    return [path for path, module in linear if id(module.weight) not in text]


def text_weights(model: Any) -> set[int]:
    """Return the weights of the decoder and the head, by identity."""
    parts = [model.get_decoder(), model.get_output_embeddings()]
    return {id(parameter) for part in parts if part is not None for parameter in part.parameters()}

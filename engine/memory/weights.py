"""One weight of a model, and a model's weights as the files beside its config.json have them. Torch-free."""

from __future__ import annotations

import json
import re
from math import prod
from pathlib import Path
from typing import Literal, NamedTuple

from engine.basics.errors import ModelError
from engine.models.source import tensor_shapes

# expert: many matrices in one tensor; neither adapters nor 4-bit layers know it.
Role = Literal["embedding", "head", "linear", "expert", "vector"]


class Weight(NamedTuple):
    """One weight of the model. `name` ends in `.weight` or `.bias` where transformers' own does."""

    name: str
    shape: tuple[int, ...]
    role: Role

    @property
    def numel(self) -> int:
        return prod(self.shape)

    @property
    def module(self) -> str:
        """The name of the layer that holds it, such as `model.layers.0.self_attn.q_proj`."""
        return self.name.rpartition(".")[0]


_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|wpe|embed_in|word_embeddings|tok_embeddings)\.weight$")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output)\.weight$")
_BUFFER = re.compile(r"(rotary_emb\.inv_freq|(^|\.)attn\.(masked_)?bias)$")


def from_header(header: dict[str, list[int]], tied: bool) -> tuple[Weight, ...]:
    weights = (Weight(name, tuple(shape), _role(name, shape)) for name, shape in header.items())
    return tuple(
        weight
        for weight in weights
        if not _BUFFER.search(weight.name) and not (tied and weight.role == "head")
    )


def _role(name: str, shape: list[int]) -> Role:
    if _EMBEDDING.search(name):
        return "embedding"
    if _HEAD.search(name):
        return "head"
    if ".experts." in name or len(shape) > 2:
        return "expert"  # one matrix each in the file, one tensor in transformers
    return "linear" if len(shape) == 2 else "vector"


def read_headers(directory: Path, source: str) -> dict[str, list[int]] | None:
    """Read names and shapes of all weights; None if a file is missing. Raises ModelError."""
    index = directory / "model.safetensors.index.json"
    files = sorted(directory.glob("*.safetensors"))
    if index.exists():
        try:
            needed = set(json.loads(index.read_text())["weight_map"].values())
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"model {source}: {index} cannot be read ({error}); download it again") from None
        if not needed <= {file.name for file in files}:
            return None
        files = [file for file in files if file.name in needed]
    shapes: dict[str, list[int]] = {}
    for file in files:
        shapes |= tensor_shapes(file, source)
    return shapes or None

"""The tokenizer of a model. Torch-free."""

from __future__ import annotations

from typing import Any

from engine.basics.errors import ModelError
from engine.models.source import resolve
from engine.recipe.sections import ModelSpec
from finetui.errors import first_line


def load_tokenizer(spec: ModelSpec) -> Any:
    """Load the model's tokenizer, a fast one, which maps tokens to places in the text. Raises ModelError."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            resolve(spec.path), trust_remote_code=spec.trust_remote_code
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            f"model {spec.path}: its tokenizer cannot be loaded ({first_line(error)})"
        ) from error
    if not tokenizer.is_fast:
        raise ModelError(f"model {spec.path}: only has a slow tokenizer; finetui needs a tokenizer.json")
    return tokenizer

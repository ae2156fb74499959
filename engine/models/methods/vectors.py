"""IA3, prompt tuning and prefix tuning through PEFT: a few trained vectors beside a frozen base."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from engine.basics.errors import ModelError
from engine.models.classifier import modules_to_save
from engine.recipe.methods import IA3, Prefix, Prompt
from finetui.errors import first_line


def with_vectors(base: Any, method: IA3 | Prefix | Prompt) -> Any:
    """Add new vectors to the base; they alone are trained. Raises ModelError."""
    from peft import IA3Config, PrefixTuningConfig, PromptTuningConfig, get_peft_model

    config: Any
    if isinstance(method, IA3):
        new = modules_to_save(base)
        config = IA3Config(task_type="CAUSAL_LM" if new is None else "SEQ_CLS", modules_to_save=new)
    elif isinstance(method, Prefix):
        config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=method.tokens)
    else:
        config = PromptTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=method.tokens, prompt_tuning_init="RANDOM"
        )
    try:
        return get_peft_model(base, config)
    except ValueError as error:  # PEFT knows the layers of IA3 by the type of the model
        raise ModelError(
            f"key method: {method.name} does not fit this model ({first_line(error)}); use lora"
        ) from None


@torch.no_grad()
def initialise_tokens(model: Any, method: Prefix | Prompt, tokens: Iterable[int]) -> None:
    """Initialise the virtual tokens from real ones, repeated where too few; training then needs far fewer steps.

    A prompt begins as their embeddings, a prefix as their keys and values in every layer.
    """
    base = model.get_base_model()
    chosen = [token for token, _ in zip(tokens, range(method.tokens), strict=False)]
    repeats = -(-method.tokens // len(chosen))
    ids = torch.tensor([(chosen * repeats)[: method.tokens]], device=base.device)
    if isinstance(method, Prompt):
        initial = base.get_input_embeddings()(ids)[0]
    else:
        cache = base.get_decoder()(input_ids=ids, use_cache=True).past_key_values
        # [1, heads, tokens, head width] each, to [tokens, layers * 2 * heads * head width]
        states = (state for layer in cache.layers for state in (layer.keys, layer.values))
        initial = torch.cat([state.transpose(1, 2).flatten(2)[0] for state in states], -1)
    model.prompt_encoder["default"].embedding.weight.copy_(initial)

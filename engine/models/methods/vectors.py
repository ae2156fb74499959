"""IA3, prompt tuning and prefix tuning through PEFT: a few trained vectors beside a frozen base."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from engine.basics.errors import ModelError
from engine.models.classifier import modules_to_save
from engine.models.source import setting
from engine.models.towers import linear_in_towers
from engine.recipe.methods import IA3, Prefix, Prompt
from finetui.errors import first_line

# The layers of a block by the last parts of their names. PEFT has a list for each of some types of models instead,
# and takes queries for keys in several of them.
KEYS_AND_VALUES = (
    "k_proj", "v_proj", "key", "value", "key_proj", "value_proj", "k_lin", "v_lin", "kv_b_proj",
    # Layers that make queries, keys and values at once are scaled as a whole.
    "qkv_proj", "query_key_value", "c_attn", "Wqkv", "qkv",
)  # fmt: skip
# The last layer of an MLP, whose input is scaled: what is inside the MLP.
MLP_ENDS = (
    "down_proj", "fc2", "dense_4h_to_h", "fc_out", "mlp.c_proj", "mlp.Wo", "mlp.dense", "lin2", "w2", "proj_2",
    "output_linear", "output.dense",
)  # fmt: skip
ATTENTION = ("attn", "attention")


def with_vectors(base: Any, method: IA3 | Prefix | Prompt) -> Any:
    """Add new vectors to the base; they alone are trained. Raises ModelError."""
    from peft import IA3Config, PrefixTuningConfig, PromptTuningConfig, get_peft_model

    config: Any
    if isinstance(method, IA3):
        new = modules_to_save(base)
        scaled, mlp_ends = scaled_layers(base)
        config = IA3Config(
            task_type="CAUSAL_LM" if new is None else "SEQ_CLS",
            modules_to_save=new,
            target_modules=_pattern([*scaled, *mlp_ends]),
            feedforward_modules=_pattern(mlp_ends) if mlp_ends else [],
        )
    elif isinstance(method, Prefix):
        check_window(base.config.get_text_config(), method)
        config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=method.tokens)
    else:
        config = PromptTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=method.tokens, prompt_tuning_init="RANDOM"
        )
    try:
        return get_peft_model(base, config)
    except ValueError as error:
        raise ModelError(
            f"key method: {method.name} does not fit this model ({first_line(error)}); use lora"
        ) from None


def scaled_layers(base: Any) -> tuple[list[str], list[str]]:
    """Return the layers that IA3 scales (Liu et al. 2022, arXiv:2205.05638, section 3.3): (those that make keys and
    values, the last ones of MLPs), by their paths. Experts have none of the latter. Raises ModelError.
    """
    from transformers.pytorch_utils import Conv1D

    towers = set(linear_in_towers(base)) if modules_to_save(base) is None else set()
    keys, mlp_ends = [], []
    for path, module in base.named_modules():
        if not isinstance(module, nn.Linear | Conv1D) or path in towers or not re.search(r"\.\d+\.", path):
            continue
        in_attention = any(word in part.lower() for part in path.split(".")[:-1] for word in ATTENTION)
        if path.rpartition(".")[2] in KEYS_AND_VALUES and ".experts." not in path:
            keys.append(path)
        elif not in_attention and any(f".{path}".endswith(f".{end}") for end in MLP_ENDS):
            mlp_ends.append(path)
    if not keys:
        raise ModelError(
            f"key method: ia3 scales keys and values, and {type(base).__name__} has no layers that finetui knows to "
            "make them; use lora"
        )
    return keys, mlp_ends


def _pattern(paths: list[str]) -> str:
    """Return a regular expression for layers: the same place in every block is written once."""
    places = dict.fromkeys(re.sub(r"\\\.\d+\\\.", r"\\.\\d+\\.", re.escape(path), count=1) for path in paths)
    return "|".join(places)


def check_window(config: Any, method: Prefix) -> None:
    """Raise ModelError if a prefix fills the sliding window of a model's attention."""
    window = sliding_window(config)
    if window is not None and method.tokens >= window:
        raise ModelError(
            f"key method.tokens: {method.tokens} virtual tokens fill the sliding window of this model ({window} "
            "tokens); give fewer, far fewer if texts are long"
        )


def window_notes(config: Any, method: Prefix) -> list[str]:
    """Return what becomes of a prefix in layers with a sliding window, in sentences."""
    window, longest = sliding_window(config), setting(config, "max_position_embeddings")
    if window is None or (longest and longest <= window - method.tokens):
        return []
    return [
        f"prefix: in layers with a sliding window of {window:,} tokens its keys go out of sight from token "
        f"{max(1, window - method.tokens):,} of a text on; later tokens see none of it there"
    ]


def sliding_window(config: Any) -> int | None:
    """Return how many tokens back some layers of a model see; None where all see everything."""
    window, types = setting(config, "sliding_window"), setting(config, "layer_types")
    if not window or getattr(config, "use_sliding_window", True) is False:
        return None
    return int(window) if not types or "sliding_attention" in types else None


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

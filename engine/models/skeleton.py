"""A model without its weights: what a run would train of it, or why it cannot. Here alone it is decided, for `check`
and for the worker.

`python -P -m finetui.start engine.models.skeleton`: reads one request as JSON from stdin, writes one outline as JSON.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import nn

from engine.basics.errors import ModelError
from engine.models import experts
from engine.models.classifier import HEADS
from engine.models.layers import chosen
from engine.models.load import adapt
from engine.models.methods.vectors import window_notes
from engine.models.outline import Outline, listed, question, unknown
from engine.models.quiet import quiet_libraries
from engine.models.source import resolve, setting
from engine.models.targets import is_target
from engine.models.towers import freeze_towers
from engine.recipe.methods import IA3, Lora, Method, Prefix, Targeted
from engine.recipe.sections import ModelSpec, Recipe
from finetui.errors import first_line

# transformers' names for sizes, which it maps from the many names in config.json files.
SIZES = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("intermediate_size", "vocab_size", "max_position_embeddings"),
    *("num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"),
)
# Their configurations say `is_decoder: false`, which only BERT and its kin read.
DECODERS_ANYWAY = ("gpt_neox", "gpt_neox_japanese")
TWO_WAYS = ("xlm", "xlnet", "cpmant")  # each token sees those after it, whatever the configuration says
# What cannot be seen without weights, found by scripts/architectures.py: methods that do not fit (none named: all of
# them), and why. The worker tries a few tokens, so that it refuses others too.
UNFIT: dict[str, tuple[tuple[str, ...], str]] = {
    "gemma3n": (("qlora",), "its layers cannot be held in 4 bits; use lora"),
    "gemma3n_text": (("qlora",), "its layers cannot be held in 4 bits; use lora"),
    "inkling_text": ((), "computes its logits in a way that finetui does not support"),
    "laguna": (
        ("lora", "qlora"),
        "PEFT does not read again what it saves of adapters on shared experts; use full",
    ),
    "longcat_flash": (("qlora",), "its routers cannot be held in 4 bits; use lora"),
    "rwkv": (("qlora",), "its layers cannot be held in 4 bits; use lora"),
}


def outline(recipe: Recipe) -> Outline:
    """Return the outline of a recipe's model under its method."""
    return examine(recipe.model, **question(recipe))


def examine(spec: ModelSpec, method: dict[str, Any], task: str) -> Outline:
    """Build the model without weights, apply the method to it, and describe both."""
    chosen: Method = TypeAdapter(Method).validate_python(method)
    try:
        config = _config(spec)
        check_config(config, spec, task, chosen.name)
        base = _build(config, spec, task)
        return _described(base, spec, chosen, task)
    except ModelError as error:
        return Outline(refusal=str(error))
    except Exception as error:  # the code of a model may not do without weights: the worker will see
        return unknown(error)


def check_config(config: Any, spec: ModelSpec, task: str, method: str) -> None:
    """Raise ModelError for a model that cannot be trained for this task, as its configuration shows."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    )

    where, kind, own_code = f"model {spec.path}", config.model_type, getattr(config, "auto_map", None)
    if task == "classification":
        if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING and not own_code:
            raise ModelError(
                f"{where}: transformers has no sequence classifier of type {kind}; take another base"
            )
        return
    methods, reason = UNFIT.get(kind, (("",), ""))
    if not methods or method in methods:
        raise ModelError(f"{where}: {reason}")
    if config.is_encoder_decoder:
        raise ModelError(
            f"{where}: {kind} is an encoder-decoder model; task {task} needs a causal language model, "
            "a decoder alone, and would lose its encoder"
        )
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not own_code:
        raise ModelError(
            f"{where}: transformers has no causal language model of type {kind}; take another base"
        )
    is_encoder = getattr(config, "is_decoder", None) is False and kind not in DECODERS_ANYWAY
    if is_encoder or kind in TWO_WAYS:
        can = type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
        classifies = " (task classification can use it)" if can else ""
        raise ModelError(
            f"{where}: {kind} is an encoder, each token of it sees those after it; task {task} needs a causal "
            f"language model{classifies}"
        )


def _config(spec: ModelSpec) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(resolve(spec.path), trust_remote_code=spec.trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"model {spec.path}: its config cannot be read ({first_line(error)})") from error


def _build(config: Any, spec: ModelSpec, task: str) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    loader = AutoModelForSequenceClassification if task == "classification" else AutoModelForCausalLM
    with torch.device("meta"):
        return loader.from_config(config, trust_remote_code=spec.trust_remote_code)


def _described(base: Any, spec: ModelSpec, method: Method, task: str) -> Outline:
    """Raises ModelError with what the worker would say."""
    if task == "classification":
        if not any(name in HEADS for name, _ in base.named_children()):
            raise ModelError(f"{type(base).__name__} has no head known to finetui ({' or '.join(HEADS)})")
        base.new_modules = []
    else:
        check_parts(base, spec, method)
        freeze_towers(base)
    config, weights, layers = base.config.get_text_config(), _weights(base), _layers(base)
    notes = experts.notes(base, method, task)
    if isinstance(method, Prefix):
        notes += window_notes(config, method)
    if isinstance(method, Lora) and method.init != "default":
        experts.check(base, method, chosen(base, method.targets))
        method = method.model_copy(update={"init": "default"})  # no singular vectors without weights
    with torch.device("meta"):
        trained = _trained(adapt(base, method))
    reached = None
    if isinstance(method, Targeted | IA3):
        names = list(
            dict.fromkeys(re.split(r"\.(?:lora_|ia3_l|shira_|oft_|osf_)", name)[0] for name, *_ in trained)
        )
        reached = listed(names)
        notes += _left_out(names, layers, method)
    known = task != "classification" and (method.name != "full" or len(trained) < len(weights))  # towers
    return Outline(None, _sizes(config), weights, trained if known else None, reached, tuple(notes))


def check_parts(model: Any, spec: ModelSpec, method: Method) -> None:
    """Raise ModelError for a causal language model whose parts finetui cannot run one by one."""
    decoder = model.get_decoder()
    is_head = decoder is model.get_output_embeddings() or isinstance(decoder, nn.Linear)
    if decoder is model or decoder is None or is_head or model.get_output_embeddings() is None:
        raise ModelError(
            f"model {spec.path}: {type(model).__name__} is not made of a decoder and a head, as finetui needs"
        )
    if isinstance(method, Prefix) and getattr(model, "_is_stateful", False):
        raise ModelError(
            f"key method: prefix trains keys and values, and {type(model).__name__} has layers that keep none; use lora"
        )


def _weights(model: Any) -> tuple[tuple[str, tuple[int, ...], str], ...]:
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    owners = dict(model.named_modules())
    weights = []
    for name, parameter in model.named_parameters():
        owner, shape = owners[name.rpartition(".")[0]], tuple(parameter.shape)
        if isinstance(owner, Conv1D) and len(shape) == 2:
            shape = shape[::-1]
        weights.append((name, shape, _role(owner, owner is head, len(shape), Conv1D)))
    return tuple(weights)


def _role(owner: nn.Module, is_head: bool, dimensions: int, conv1d: type) -> str:
    if isinstance(owner, nn.Embedding):
        return "embedding"
    if dimensions < 2 or (type(owner).__name__.startswith("Conv") and not isinstance(owner, conv1d)):
        return "vector"
    if is_head:
        return "head"
    return "linear" if isinstance(owner, nn.Linear | conv1d) else "expert"


def _trained(model: Any) -> tuple[tuple[str, tuple[int, ...], str], ...]:
    """Return what gets gradients, adapters by the layer or the tensor that they are beside."""
    wrapped = {name: m.parameter_name for name, m in model.named_modules() if hasattr(m, "parameter_name")}
    trained = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        layer, _, rest = name.partition(".lora_")
        if layer in wrapped:
            tensor = "" if wrapped[layer] == "weight" else f".{wrapped[layer]}"
            name = f"{layer.replace('.base_layer', '')}{tensor}.lora_{rest}"
        name = name.removeprefix("base_model.model.").replace(".default", "")
        # No layer multiplies with it.
        made_of = parameter.dim() < 2 or re.search(r"\.(oft_R|osf_svd_params)\.", name)
        role = "vector" if made_of else "linear"
        trained.append((name, tuple(parameter.shape), role))
    return tuple(trained)


def _layers(model: Any) -> dict[str, int]:
    """Return what an adapter could be beside in the blocks of the text model, with its number of weights."""
    if (decoder := model.get_decoder()) is None:
        return {}
    inside = {id(parameter) for parameter in decoder.parameters()}
    roles = {name: role for name, _, role in _weights(model)}
    return {
        name.removesuffix(".weight"): parameter.numel()
        for name, parameter in model.named_parameters()
        if id(parameter) in inside and roles[name] in ("linear", "expert") and "bias" not in name
    }


def _left_out(names: list[str], layers: dict[str, int], method: Targeted | IA3) -> list[str]:
    """Return which layers stay as they are though the targets seem to mean them."""
    if isinstance(method, IA3):
        return []
    targets = method.targets
    left = {name: count for name, count in layers.items() if name not in names and is_target(name, targets)}
    if not left:
        return []
    share = sum(left.values()) / sum(layers.values())
    given = targets if isinstance(targets, str) else f"[{', '.join(targets)}]"
    return [
        f"targets: {given} gives no adapter to {listed(list(left))} ({share:.0%} of the weights in the blocks): "
        "PEFT does not reach them; they stay as they are"
    ]


def _sizes(config: Any) -> dict[str, Any]:
    sizes = {name: setting(config, name) for name in SIZES}
    plain = json.loads(json.dumps(config.to_dict(), default=str))
    return plain | {name: value for name, value in sizes.items() if isinstance(value, int)}


def main() -> None:
    quiet_libraries()
    request = json.load(sys.stdin)
    found = examine(ModelSpec.model_validate(request["model"]), request["method"], request["task"])
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()

"""Load the base model for its method: which weights are trained, which are frozen, in which precision."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from engine.basics.cpu import cpu_has_bf16
from engine.basics.errors import ModelError
from engine.models.classifier import MAY_BE_NEW, load_classifier, train_head
from engine.models.lora_start import first_weights
from engine.models.methods.constrained import made_parts, put_parts, save_osf, with_constrained
from engine.models.methods.freeze import freeze
from engine.models.methods.low_rank import read_as_they_come, save_lora, with_lora
from engine.models.methods.vectors import with_vectors
from engine.models.source import resolve
from engine.models.start import NOTHING, Start
from engine.models.towers import freeze_towers
from engine.recipe.methods import (
    IA3,
    WHOLE_MODEL,
    Adapter,
    Constrained,
    Freeze,
    Lora,
    Method,
    Osf,
    Prefix,
    Prompt,
    QLora,
)
from engine.recipe.sections import ModelSpec, Train
from finetui import bottleneck
from finetui.errors import first_line


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(train: Train) -> torch.dtype:
    """Return the number format of the forward pass: `auto` is bfloat16 where the hardware supports it, else float32."""
    if train.precision == "auto":
        has_bf16 = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if torch.cuda.is_available()
            else cpu_has_bf16()
        )
        return torch.bfloat16 if has_bf16 else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[train.precision]


@dataclass(frozen=True)
class Classes:
    """The classes of a classifier."""

    labels: list[str]
    pad: int  # id of the padding token


def load_model(
    spec: ModelSpec,
    method: Method,
    dtype: torch.dtype,
    activation_checkpointing: bool = False,
    classes: Classes | None = None,
    start: Start = NOTHING,
) -> Any:
    """Load the model on its device, ready to train: trainable weights float32, frozen ones in `dtype` or 4 bits.

    A language model, or with `classes` a sequence classifier, whose head is trained by every method. `start`: what
    the method begins from, for those that `makes_start` names. In bfloat16 it runs under autocast. Raises ModelError.
    """
    base = _load_base(spec, method, dtype, classes)
    if not classes:
        freeze_towers(base)
    if activation_checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})
    try:
        model = adapt(base, method, start)
    except KeyError as error:
        raise ModelError(
            f"what the run keeps of its start is not of this recipe ({error}); requeue it"
        ) from None
    if dtype == torch.bfloat16:
        read_as_they_come(model)
    if classes:
        train_head(model)
    return model


def without_adapters(model: Any) -> Any:
    """Return the transformers model: PEFT wraps it, and puts its layers inside."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def adapt(base: Any, method: Method, start: Start = NOTHING) -> Any:
    """Apply a method to a language model, whose weights may be missing. Raises ModelError, and KeyError where `start`
    was made by another recipe."""
    if isinstance(method, Lora | QLora):
        return with_lora(base, method, start)
    if isinstance(method, Constrained):
        model = with_constrained(base, method)
        if start.made is not None:
            put_parts(model, start.made)
        return model
    if isinstance(method, IA3 | Prefix | Prompt):
        return with_vectors(base, method)
    if isinstance(method, Adapter):
        return _with_bottlenecks(base, method)
    if isinstance(method, Freeze):
        return freeze(base, method)
    return base


def _load_base(spec: ModelSpec, method: Method, dtype: torch.dtype, classes: Classes | None) -> Any:
    from transformers import AutoModelForCausalLM

    loader = AutoModelForCausalLM.from_pretrained
    if classes:
        loader = partial(load_classifier, labels=classes.labels, pad=classes.pad)
    options: dict[str, Any] = {"dtype": torch.float32 if method.name == "full" else dtype}
    if isinstance(method, QLora):
        options["quantization_config"] = _four_bits(method, dtype, classes is not None)
    try:
        model = loader(
            resolve(spec.path),
            device_map={"": device()},
            use_safetensors=True,
            trust_remote_code=spec.trust_remote_code,
            **options,
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"model {spec.path}: cannot be loaded ({first_line(error)})") from error
    if isinstance(method, QLora):
        _keep_weights_unpacked(model)
    return model


def _four_bits(method: QLora, dtype: torch.dtype, classifies: bool) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=method.quant,
        bnb_4bit_use_double_quant=method.double_quant,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=MAY_BE_NEW if classifies else None,  # else those that transformers chooses
    )


def _keep_weights_unpacked(model: Any) -> None:
    """Keep bitsandbytes from repacking the weights for inference on CPUs with AVX512-BF16.

    It does so, permanently, at the first evaluation; after that no gradient passes the layer.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _with_bottlenecks(base: Any, method: Adapter) -> Any:
    config = bottleneck.Bottleneck(
        placement=method.placement, reduction=method.reduction, activation=method.activation
    )
    try:
        return bottleneck.add(base, config)
    except bottleneck.AdapterError as error:
        raise ModelError(str(error)) from None


def save_model(model: Any, method: Method, directory: Path) -> None:
    """Write what was trained: a whole model if the method trains the base's own weights, else an adapter.

    The model cannot be trained afterwards.
    """
    if isinstance(method, Adapter):
        bottleneck.save(model, directory)
    elif method.name in WHOLE_MODEL:
        if isinstance(method, Freeze):
            model.cpu().float()  # one format for all of it, that of the trained part: training is over
        model.save_pretrained(directory)
    else:
        (save_osf if isinstance(method, Osf) else save_lora)(model, directory)
        if model.active_peft_config.task_type == "SEQ_CLS":
            _save_config(model, directory)


def _save_config(model: Any, directory: Path) -> None:
    """Save the classes and the padding token, with which an adapter's base has to be loaded."""
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):  # else the base would be taken for one saved in 4 bits
        del config.quantization_config
    config.save_pretrained(directory)


def longest(spec: ModelSpec, tokenizer: Any) -> int:
    """Return the most tokens that the model can take, by its configuration or else by its tokenizer."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(resolve(spec.path), trust_remote_code=spec.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"model {spec.path}: its config cannot be read ({first_line(error)})") from error
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(positions or tokenizer.model_max_length)


def start_of(model: Any, method: Method) -> dict[str, torch.Tensor]:
    """Return what the method made of base and data, on the CPU; to be called before the first step."""
    return first_weights(model) if isinstance(method, Lora) else made_parts(model)


def count_parameters(model: Any, trained_only: bool = False) -> int:
    """Count the weights of a model, tied ones once; a 4-bit weight counts as one."""
    return sum(
        p.quant_state.shape.numel() if getattr(p, "quant_state", None) is not None else p.numel()
        for p in model.parameters()
        if p.requires_grad or not trained_only
    )


def device_label() -> str:
    return (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"cpu ({torch.get_num_threads()} threads)"
    )

"""What of a recipe decides how much memory a run needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from engine.memory.shapes import ModelShapes
from engine.method_settings import Lora, QLora
from engine.model_source import ModelError
from engine.recipe import Recipe

Device = Literal["cuda", "cpu"]
MethodName = Literal["full", "lora", "qlora"]
KNOWN = ", ".join(get_args(MethodName))
# paged: bitsandbytes keeps the moments in memory that the driver moves to the host under pressure.
Optimiser = Literal["adamw", "adamw8bit", "paged_adamw", "paged_adamw8bit", "adafactor"]

DEFAULT_LENGTH = 2048  # tokens, for a recipe whose data has not been looked at


@dataclass(frozen=True)
class Plan:
    """A training setup as the estimate sees it. Tokens are those of one forward pass, padding counted."""

    method: MethodName
    tokens: int
    length: int  # tokens of the longest example; at most `tokens`
    device: Device = "cuda"
    bf16: bool = True  # autocast to bfloat16, frozen weights in bfloat16; False: float32 throughout
    accumulates: bool = True  # gradients of earlier micro-batches are held during a forward pass
    checkpointing: bool = False  # activations of a layer are computed again in the backward pass
    optimiser: Optimiser = "adamw"
    target_share: float = 1.0  # of the tokens, those that the loss is taken of
    r: int = 16
    lora_dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"
    double_quant: bool = True
    prompts: int = 0  # answered at an evaluation
    answer_tokens: int = 48

    @property
    def adapters(self) -> bool:
        return self.method != "full"


def plan_of(
    recipe: Recipe,
    model: ModelShapes,
    device: Device,
    longest: int | None = None,
) -> Plan:
    """The plan of a recipe. `longest`: tokens of the longest example, where the data have been looked at.

    Without it and with `max_length: auto`, examples of 2048 tokens (or all that the model can take, if that
    is less) are assumed. A micro-batch holds at least one example, however long. Raises ModelError for a method
    that the estimate does not know.
    """
    limits = [n for n in (longest, recipe.train.max_length, model.max_positions) if isinstance(n, int)]
    if longest is None and recipe.train.max_length == "auto":
        limits.append(DEFAULT_LENGTH)
    length = min(limits)
    tokens = max(length, recipe.train.micro_tokens)
    method = recipe.method
    if method.name not in get_args(MethodName):
        raise ModelError(f"key method: the estimate does not know {method.name} yet, only {KNOWN}")
    # `auto` is bfloat16 on every GPU since 2020 (Ampere), float32 on a CPU.
    bf16 = recipe.train.precision == "bf16" or (recipe.train.precision == "auto" and device == "cuda")
    plan = Plan(
        method=cast(MethodName, method.name),
        tokens=tokens,
        length=length,
        device=device,
        bf16=bf16,
        accumulates=recipe.train.tokens_per_step > recipe.train.micro_tokens,
        checkpointing=recipe.train.activation_checkpointing,
        prompts=recipe.evals.generate,
        answer_tokens=recipe.evals.max_new_tokens,
    )
    if not isinstance(method, Lora | QLora):
        return plan
    if method.dora:
        raise ModelError(
            "key method.dora: the estimate does not know DoRA yet; set method.dora=false for the rest"
        )
    targets = method.targets if isinstance(method.targets, str) else tuple(method.targets)
    double = method.double_quant if isinstance(method, QLora) else True
    return replace(plan, r=method.r, lora_dropout=method.dropout, targets=targets, double_quant=double)

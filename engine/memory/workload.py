"""The workload of a run: all that decides how much memory it needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from engine.basics.cpu import cpu_has_bf16
from engine.memory.families import PRESETS
from engine.memory.shapes import ModelShapes, from_outline, model_shapes
from engine.memory.weights import Role, Weight
from engine.models.outline import outline_of
from engine.recipe.methods import Adapter, Freeze, Lora, Oft, Osf, QLora, Shira, Targeted
from engine.recipe.sections import Recipe

Device = Literal["cuda", "cpu"]
MethodName = Literal[
    "full", "freeze", "lora", "qlora", "shira", "oft", "osf", "adapter", "ia3", "prefix", "prompt"
]
# paged: bitsandbytes keeps the moments in memory that the driver moves to the host under pressure.
Optimiser = Literal["adamw", "adamw8bit", "paged_adamw", "paged_adamw8bit", "adafactor"]

DEFAULT_LENGTH = 2048  # tokens, for a recipe whose data have not been read


@dataclass(frozen=True)
class Workload:
    """A training setup as the estimate sees it. Tokens are those of one forward pass, padding counted, without
    the virtual ones of prefix and prompt."""

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
    dora: bool = False
    covariance: bool = (
        False  # init: corda or corda-kpm, which need one of each layer's inputs before the first step
    )
    block: int = 32  # oft: inputs that are rotated together
    keep: float = 0.9  # osf: share of the singular directions that stay
    trained_layers: int = 0  # freeze: how many of the last layers
    trained_modules: tuple[str, ...] = ()  # freeze: names of modules instead
    bottlenecks: int = 0  # adapter: how many in a layer
    reduction: int = 16  # adapter: width of the model / width of a bottleneck
    virtual: int = 0  # prefix and prompt: positions in front of every row
    prompts: int = 0  # answered at an evaluation
    answer_tokens: int = 48

    @property
    def adapters(self) -> bool:
        """Whether new weights are trained beside a base that is frozen as a whole."""
        return self.method not in ("full", "freeze")

    @property
    def trains(self) -> tuple[Any, ...]:
        """The settings that decide which weights are trained, the rank of low-rank matrices aside."""
        kind = "lora" if self.method == "qlora" else self.method
        modules = (self.trained_layers, self.trained_modules)
        limits = (self.r if kind == "shira" else 0, self.block, self.keep)
        return (
            kind,
            self.targets,
            self.dora,
            *modules,
            self.bottlenecks,
            self.reduction,
            self.virtual,
            *limits,
        )

    @property
    def frozen_base(self) -> bool:
        """Whether the base is in the compute precision: all of it, or what is not trained."""
        return self.method != "full"


def recipe_shapes(recipe: Recipe) -> ModelShapes:
    """Return the shapes of a recipe's model, with what its method trains if a skeleton was asked. Raises ModelError."""
    outline = None if recipe.model.path in PRESETS else outline_of(recipe)
    if outline is None or outline.config is None:
        return model_shapes(recipe.model.path)
    shapes = from_outline(outline, recipe.model.path)
    if outline.trained is None:
        return shapes
    trained = tuple(Weight(name, shape, cast(Role, role)) for name, shape, role in outline.trained)
    return replace(shapes, trained=trained, trained_by=workload_of(recipe, shapes, "cpu").trains)


def workload_of(
    recipe: Recipe,
    model: ModelShapes,
    device: Device,
    longest: int | None = None,
) -> Workload:
    """Return the workload of a recipe. `longest`: tokens of the longest example, if the data have been read.

    Without it and with `max_length: auto`, examples of 2048 tokens (or all that the model can take, if that
    is less) are assumed. A micro-batch holds at least one example, however long.
    """
    limits = [n for n in (longest, recipe.train.max_length, model.max_positions) if isinstance(n, int)]
    if longest is None and recipe.train.max_length == "auto":
        limits.append(DEFAULT_LENGTH)
    length = min(limits)
    train = recipe.train
    has_bf16 = device == "cuda" or cpu_has_bf16()  # every GPU since 2020 (Ampere) has it
    bf16 = train.precision == "bf16" or (train.precision == "auto" and has_bf16)
    workload = Workload(
        method=recipe.method.name,
        tokens=max(length, min(train.micro_tokens, train.tokens_per_step)),
        length=length,
        device=device,
        bf16=bf16,
        accumulates=train.tokens_per_step > train.micro_tokens,
        checkpointing=train.activation_checkpointing is True,
        optimiser=train.optimiser,
        virtual=recipe.virtual_tokens,
        prompts=recipe.evals.generate,
        answer_tokens=recipe.evals.max_new_tokens,
    )
    return _with_method(workload, recipe)


def _with_method(workload: Workload, recipe: Recipe) -> Workload:
    """Return the workload with the settings of the method."""
    method = recipe.method
    if isinstance(method, Freeze):
        names = tuple(method.modules or ())
        return replace(workload, trained_layers=0 if names else method.layers, trained_modules=names)
    if isinstance(method, Adapter):
        bottlenecks = 2 if method.placement == "houlsby" else 1
        return replace(workload, bottlenecks=bottlenecks, reduction=method.reduction)
    if not isinstance(method, Targeted):
        return workload
    targets = method.targets if isinstance(method.targets, str) else tuple(method.targets)
    workload = replace(workload, targets=targets)
    if isinstance(method, Oft):
        return replace(workload, block=method.block)
    if isinstance(method, Osf):
        return replace(workload, keep=method.keep)
    if isinstance(method, Shira):
        return replace(workload, r=method.r)
    return replace(
        workload,
        r=method.r,
        lora_dropout=method.dropout,
        dora=method.dora,
        double_quant=method.double_quant if isinstance(method, QLora) else True,
        covariance=isinstance(method, Lora) and method.weighs_inputs,
    )

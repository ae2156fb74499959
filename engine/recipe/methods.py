"""The section `method` of a recipe: what is trained, one model per method."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from engine.recipe.fields import Section

# Layers by the ends of their names; all linear layers but the head; those of the MLPs.
Targets = Literal["all-linear", "mlp"] | list[str]


class Full(Section):
    name: Literal["full"] = Field(description="Train every weight.")


class Freeze(Section):
    name: Literal["freeze"] = Field(description="Train part of the model and freeze the rest.")
    layers: int = Field(2, ge=1, description="Number of last blocks that are trained, with the final norm.")
    modules: list[str] | None = Field(
        None,
        min_length=1,
        description="Names of modules to train instead, such as `self_attn`, `lm_head` or `layers.4.mlp`.",
    )


class Lora(Section):
    name: Literal["lora"] = Field(description="Train low-rank adapters on a frozen base.")
    r: int = Field(16, ge=1, description="Rank of the adapters.")
    alpha: float = Field(32, gt=0, description="Scale: the adapter's output is multiplied by alpha / r.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the adapters.")
    targets: Targets = Field(
        "all-linear", description="Names of the layers that get an adapter, `all-linear`, or `mlp`."
    )
    rslora: bool = Field(False, description="Scale by alpha / √r instead: for high ranks.")
    dora: bool = Field(
        False, description="Train magnitude and direction separately (DoRA): slower, often better."
    )
    lr_ratio: float = Field(
        1.0,
        gt=0,
        description="Learning rate of the B matrices over that of the A matrices (LoRA+ suggests 16).",
    )
    init: Literal["default", "pissa", "eva", "corda", "corda-kpm"] = Field(
        "default",
        description="Start at random directions; with the base's largest singular vectors (`pissa`); from some of the "
        "training data, with the main directions of each layer's inputs (`eva`) or with the largest singular vectors "
        "as these inputs weigh them (`corda`); or with the smallest ones as general text weighs them (`corda-kpm`).",
    )

    @model_validator(mode="after")
    def _check_combination(self) -> Lora:
        if self.dora and self.rewrites_base:
            raise ValueError(f"dora and init: {self.init} do not go together; leave one of them out")
        return self

    @property
    def rewrites_base(self) -> bool:
        """Whether the adapter begins with a part of the base, which is taken out of it."""
        return self.init == "pissa" or self.weighs_inputs

    @property
    def learns_from_data(self) -> bool:
        """Whether the adapter's beginning is computed from some of the training data, or of the general text."""
        return self.init == "eva" or self.weighs_inputs

    @property
    def begins_from_general(self) -> bool:
        """Whether these data are general text."""
        return self.init == "corda-kpm"

    @property
    def weighs_inputs(self) -> bool:
        """Whether it begins with singular vectors of the weights as the inputs of their layer weigh them."""
        return self.init in ("corda", "corda-kpm")


class QLora(Section):
    name: Literal["qlora"] = Field(description="LoRA on a base in 4 bits (bitsandbytes).")
    r: int = Field(16, ge=1, description="Rank of the adapters.")
    alpha: float = Field(32, gt=0, description="Scale: the adapter's output is multiplied by alpha / r.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the adapters.")
    targets: Targets = Field(
        "all-linear", description="Names of the layers that get an adapter, `all-linear`, or `mlp`."
    )
    rslora: bool = Field(False, description="Scale by alpha / √r instead: for high ranks.")
    dora: bool = Field(
        False, description="Train magnitude and direction separately (DoRA): slower, often better."
    )
    lr_ratio: float = Field(
        1.0,
        gt=0,
        description="Learning rate of the B matrices over that of the A matrices (LoRA+ suggests 16).",
    )
    quant: Literal["nf4", "fp4"] = Field("nf4", description="4-bit number format of the base.")
    double_quant: bool = Field(True, description="Quantise the quantisation constants as well.")


class Shira(Section):
    name: Literal["shira"] = Field(
        description="Train a few single weights of each layer, chosen at random (SHiRA), on a frozen base."
    )
    r: int = Field(
        16,
        ge=1,
        description="A layer of m x n gets r (m + n) trained weights, as many as LoRA's at this rank.",
    )
    targets: Targets = Field(
        "all-linear", description="Names of the layers that are changed, `all-linear`, or `mlp`."
    )


class Oft(Section):
    name: Literal["oft"] = Field(
        description="Train rotations of what each layer reads (OFT): lengths and angles of its weights stay."
    )
    block: int = Field(
        32,
        ge=2,
        description="Inputs that are rotated together; a layer whose inputs it does not divide takes the nearest that "
        "does.",
    )
    targets: Targets = Field(
        "all-linear", description="Names of the layers that are rotated, `all-linear`, or `mlp`."
    )


class Osf(Section):
    name: Literal["osf"] = Field(
        description="Train the smallest singular directions of each layer (OSF); the largest stay as they are."
    )
    keep: float = Field(
        0.9, gt=0, lt=1, description="Share of each layer's singular directions that stay as they are."
    )
    targets: Targets = Field(
        "all-linear", description="Names of the layers that are trained, `all-linear`, or `mlp`."
    )


class Adapter(Section):
    name: Literal["adapter"] = Field(
        description="Train bottleneck adapters: small networks inserted into each block of a frozen base."
    )
    placement: Literal["houlsby", "pfeiffer"] = Field(
        "houlsby", description="After attention and MLP (`houlsby`), or only after the MLP (`pfeiffer`)."
    )
    reduction: int = Field(16, ge=1, description="Width of the model divided by the width of an adapter.")
    activation: Literal["relu", "gelu", "silu"] = Field(
        "gelu", description="Activation between its two layers."
    )


class IA3(Section):
    name: Literal["ia3"] = Field(
        description="Train vectors that scale keys, values and the MLP of each block: the fewest weights."
    )


class Prefix(Section):
    name: Literal["prefix"] = Field(
        description="Train the keys and values of virtual tokens before every text."
    )
    tokens: int = Field(
        16, ge=1, description="Number of virtual tokens; they count towards `train.max_length`."
    )
    text: str | None = Field(
        None, min_length=1, description="Text that they start as; default: the start of the training data."
    )


class Prompt(Section):
    name: Literal["prompt"] = Field(description="Train the embeddings of virtual tokens before every text.")
    tokens: int = Field(
        16, ge=1, description="Number of virtual tokens; they count towards `train.max_length`."
    )
    text: str | None = Field(
        None, min_length=1, description="Text that they start as; default: the start of the training data."
    )


Constrained = Shira | Oft | Osf  # they change the base's layers themselves, within limits
Targeted = Lora | QLora | Constrained  # methods with `targets`


def _method_by_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Method = Annotated[
    Full | Freeze | Lora | QLora | Shira | Oft | Osf | Adapter | IA3 | Prefix | Prompt,
    Field(discriminator="name"),
    BeforeValidator(_method_by_name),
]


# Starting points for models of 1B parameters and more; a model of a few million needs five to ten times as much.
# The fewer weights a method trains, the farther each has to move. Those of shira, oft and osf are the settings of
# PEFT's own benchmark (MetaMathQA, Llama-3.2-3B), where lora has 1e-4 at twice our rank.
DEFAULT_LR = {
    "full": 2e-5,
    "freeze": 2e-5,
    "lora": 2e-4,
    "qlora": 2e-4,
    "shira": 3e-4,
    "oft": 1e-4,
    "osf": 5e-5,
    "adapter": 2e-4,
    "ia3": 5e-3,
    "prefix": 1e-2,
    "prompt": 1e-1,
}

# Steps of warm-up: new networks and virtual tokens start far from their final values (Houlsby et al. 2019 warm up for
# 10% of the steps, Liu et al. 2022 train IA3 with 6%).
DEFAULT_WARMUP = {
    "full": "5%",
    "freeze": "5%",
    "lora": "5%",
    "qlora": "5%",
    "shira": "5%",
    "oft": "5%",
    "osf": "5%",
    "adapter": "10%",
    "ia3": "6%",
    "prefix": "10%",
    "prompt": "10%",
}


# Methods that train weights of the base itself, and so leave a whole model; the others leave an adapter.
WHOLE_MODEL = ("full", "freeze")

"""The recipe: everything about a run that is decided before it starts, one model per section.

Torch-free. How a YAML file becomes recipes, and what is said about a bad one, is in recipe_file.py.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

OnFlag = Literal["warn", "stop", "off"]


@dataclass(frozen=True)
class Share:
    """A number of steps or rows, given as a share of the whole ("10%") or as a count (200)."""

    percent: float | None = None
    count: int | None = None

    def of(self, total: int) -> int:
        """The count out of `total`, at least 1."""
        return max(1, round(total * self.percent / 100)) if self.percent is not None else self.count or 1


def parse_share(value: str | int) -> Share:
    """Read "10%" or a whole number; ValueError otherwise."""
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            percent = float(value.strip()[:-1])
        except ValueError:
            percent = -1.0
        if 0 < percent <= 100:
            return Share(percent=percent)
    elif isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return Share(count=value)
    raise ValueError("give a share such as 10% or a whole number above 0")


def _checked_share(value: Any) -> Any:
    parse_share(value)
    return value


ShareField = Annotated[str | int, BeforeValidator(_checked_share)]


class Section(BaseModel):
    """What all sections share: no unknown keys, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSpec(Section):
    path: str = Field(description="`bundled:NAME`, a local directory, or a hub id")
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with the model. Only for models you trust."
    )


class Full(Section):
    name: Literal["full"] = Field(description="Train every weight.")


class Freeze(Section):
    name: Literal["freeze"] = Field(description="Train part of the model and freeze the rest.")
    layers: int = Field(2, ge=1, description="How many of the last blocks are trained, with the final norm.")
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
    targets: Literal["all-linear"] | list[str] = Field(
        "all-linear", description="Names of the layers that get an adapter, or `all-linear`."
    )
    rslora: bool = Field(False, description="Scale by alpha / √r instead: for high ranks.")
    dora: bool = Field(False, description="Train length and direction apart (DoRA): slower, often better.")
    lr_ratio: float = Field(
        1.0, gt=0, description="Rate of the B matrices over that of the A matrices (LoRA+ suggests 16)."
    )
    init: Literal["default", "pissa"] = Field(
        "default", description="Begin at zero, or with the base's largest singular vectors (`pissa`)."
    )

    @model_validator(mode="after")
    def _combine(self) -> Lora:
        if self.dora and self.init == "pissa":
            raise ValueError("dora and init: pissa do not go together; leave one of them out")
        return self


class QLora(Section):
    name: Literal["qlora"] = Field(description="LoRA on a base held in 4 bits (bitsandbytes).")
    r: int = Field(16, ge=1, description="Rank of the adapters.")
    alpha: float = Field(32, gt=0, description="Scale: the adapter's output is multiplied by alpha / r.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the adapters.")
    targets: Literal["all-linear"] | list[str] = Field(
        "all-linear", description="Names of the layers that get an adapter, or `all-linear`."
    )
    rslora: bool = Field(False, description="Scale by alpha / √r instead: for high ranks.")
    dora: bool = Field(False, description="Train length and direction apart (DoRA): slower, often better.")
    lr_ratio: float = Field(
        1.0, gt=0, description="Rate of the B matrices over that of the A matrices (LoRA+ suggests 16)."
    )
    quant: Literal["nf4", "fp4"] = Field("nf4", description="4-bit number format of the base.")
    double_quant: bool = Field(True, description="Quantise the quantisation constants as well.")


class Adapter(Section):
    name: Literal["adapter"] = Field(
        description="Train bottleneck adapters: small networks inserted into each block of a frozen base."
    )
    placement: Literal["houlsby", "pfeiffer"] = Field(
        "houlsby", description="After attention and MLP (`houlsby`), or after the MLP only (`pfeiffer`)."
    )
    reduction: int = Field(16, ge=1, description="Width of the model divided by the width of an adapter.")
    activation: Literal["relu", "gelu", "silu"] = Field("gelu", description="Between its two layers.")


class IA3(Section):
    name: Literal["ia3"] = Field(
        description="Train vectors that scale keys, values and the MLP of each block: the fewest weights."
    )


class Prefix(Section):
    name: Literal["prefix"] = Field(
        description="Train the keys and values of virtual tokens that stand before every text."
    )
    tokens: int = Field(16, ge=1, description="How many; they take room from `train.max_length`.")
    text: str | None = Field(
        None, min_length=1, description="What they begin as; the start of the training data if not given."
    )


class Prompt(Section):
    name: Literal["prompt"] = Field(
        description="Train the embeddings of virtual tokens that stand before every text."
    )
    tokens: int = Field(16, ge=1, description="How many; they take room from `train.max_length`.")
    text: str | None = Field(
        None, min_length=1, description="What they begin as; the start of the training data if not given."
    )


def _method_by_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Method = Annotated[
    Full | Freeze | Lora | QLora | Adapter | IA3 | Prefix | Prompt,
    Field(discriminator="name"),
    BeforeValidator(_method_by_name),
]


class Replay(Section):
    source: str = Field(
        description="General data mixed into the training data: bundled:NAME, a file or a hub id."
    )
    ratio: float = Field(0.05, gt=0, lt=1, description="Share of the training tokens that comes from it.")


class Data(Section):
    train: str = Field(description="`bundled:NAME`, a .jsonl, .json, .csv or .parquet file, or a hub id.")
    heldout: ShareField | str = Field(
        "10%", description="A share of the training rows, chosen by content hash, or a source of its own."
    )
    replay: Replay | None = Field(None, description="General data to mix in against forgetting.")
    limit: int | None = Field(None, ge=1, description="Use the first N rows (in content-hash order) only.")

    @property
    def heldout_share(self) -> Share | None:
        """What share of the training rows is held out; None if held-out data are a source of their own."""
        try:
            return parse_share(self.heldout)
        except ValueError:
            return None


class Train(Section):
    epochs: float = Field(1.0, gt=0, description="Passes over the training data; `max_steps` wins if given.")
    max_steps: int | None = Field(None, ge=1, description="Optimiser steps.")
    lr: float | None = Field(None, gt=0, description="Peak learning rate; by method if not given.")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="Learning-rate curve after warm-up."
    )
    warmup: ShareField = Field("5%", description="Steps of linear warm-up.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay (matrices only).")
    grad_clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    tokens_per_step: int = Field(
        8192, ge=1, description="Tokens (padding not counted) in one optimiser step."
    )
    micro_tokens: int = Field(4096, ge=1, description="Tokens (padding counted) in one forward pass.")
    max_length: Literal["auto"] | int = Field(
        "auto", description="Longest example in tokens; longer ones are cut."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Number format of the forward pass."
    )
    activation_checkpointing: bool = Field(
        False, description="Compute activations again in the backward pass: less memory, a third more time."
    )
    checkpoint_every: ShareField = Field("20%", description="Steps between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="How many of the latest checkpoints stay on disk.")


class Evals(Section):
    every: ShareField = Field(
        "10%", description="Steps between evaluations; step 0 and the end are always evaluated."
    )
    general: str | None = Field(
        "bundled:stdlib-prose",
        description="Text that the base model could already do, watched for forgetting.",
    )
    limit: int = Field(200, ge=2, description="Most examples scored per suite.")
    generate: int = Field(4, ge=0, description="Held-out prompts answered at each evaluation.")
    max_new_tokens: int = Field(48, ge=1, description="Longest answer, in tokens.")


class Flags(Section):
    overfitting: OnFlag = Field("warn", description="Held-out loss has turned up beyond noise.")
    forgetting: OnFlag = Field(
        "warn", description="General loss is above the base model's beyond noise and margin."
    )


# Starting points for models of 1B parameters and more; a model of a few million wants five to ten times as much.
# The fewer weights a method trains, the farther each has to go.
DEFAULT_LR = {
    "full": 2e-5,
    "freeze": 2e-5,
    "lora": 2e-4,
    "qlora": 2e-4,
    "adapter": 2e-4,
    "ia3": 5e-3,
    "prefix": 1e-2,
    "prompt": 1e-1,
}


# Methods that train weights of the base itself, and so leave a whole model; the others leave an adapter.
WHOLE_MODEL = ("full", "freeze")


class Recipe(Section):
    """Everything about a run that is decided before it starts."""

    name: str | None = Field(None, description="Shown in lists; the file's name if not given.")
    model: Annotated[ModelSpec, BeforeValidator(lambda v: {"path": v} if isinstance(v, str) else v)] = Field(
        description="The base model: a path, or a section with `path`."
    )
    method: Method = Field(description="What is trained.")
    task: Literal["sft"] = Field("sft", description="What the loss is.")
    data: Data = Field(description="Training and held-out data.")
    train: Train = Field(default_factory=Train, description="How long, how fast, how much at once.")
    evals: Evals = Field(default_factory=Evals, description="What is measured on the way.")
    flags: Flags = Field(default_factory=Flags, description="What to do when a run goes wrong.")
    seed: int = Field(0, ge=0, description="Seed of data order, initialisation and dropout.")

    @model_validator(mode="after")
    def _fill_method_defaults(self) -> Recipe:
        if self.train.lr is not None:
            return self
        train = self.train.model_copy(update={"lr": DEFAULT_LR[self.method.name]})
        return self.model_copy(update={"train": train})

    @model_validator(mode="after")
    def _combine(self) -> Recipe:
        if isinstance(self.method, Prefix) and self.train.activation_checkpointing:
            raise ValueError(
                "method prefix and train.activation_checkpointing do not go together: set the latter to false, "
                "or use method prompt"
            )
        return self

    @property
    def virtual_tokens(self) -> int:
        """Trained positions that stand before every text."""
        return self.method.tokens if isinstance(self.method, Prefix | Prompt) else 0

    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the resolved recipe without its name."""
        body = self.model_dump(mode="json", exclude={"name"})
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]

    def flat(self) -> dict[str, str]:
        """`{"method.r": "16", …}`: one entry per leaf, as stored in the table `params`."""
        return dict(_leaves(self.model_dump(mode="json"), ""))


def _leaves(value: Any, prefix: str) -> Any:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else key)
    elif value is not None:
        yield prefix, value if isinstance(value, str) else json.dumps(value)

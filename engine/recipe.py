"""The recipe: everything about a run that is decided before it starts, one model per section.

Torch-free. How a YAML file becomes recipes, and what is said about a bad one, is in recipe_file.py.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from engine.data.columns import Column
from engine.method_settings import DEFAULT_LR, Method, Prefix, Prompt
from engine.recipe_fields import Section, Share, ShareField, parse_share

OnFlag = Literal["warn", "stop", "off"]


class ModelSpec(Section):
    path: str = Field(description="`bundled:NAME`, a local directory, or a hub id")
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with the model. Only for models you trust."
    )


class Replay(Section):
    source: str = Field(
        description="General data mixed into the training data: bundled:NAME, a file or a hub id."
    )
    ratio: float = Field(0.05, gt=0, lt=1, description="Share of the training tokens that comes from it.")


class Data(Section):
    train: str = Field(
        description="`bundled:NAME`, a .jsonl, .json, .csv or .parquet file, a directory of them, or a hub id."
    )
    heldout: ShareField | str = Field(
        "10%", description="A share of the training rows, chosen by content hash, or a source of its own."
    )
    replay: Replay | None = Field(None, description="General data to mix in against forgetting.")
    columns: dict[Column, str] = Field(
        {},
        description="What `train` and a held-out source call their columns, such as `{prompt: question}`.",
    )
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

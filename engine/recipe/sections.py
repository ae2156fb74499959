"""The recipe: everything about a run that is decided before it starts, one model per section.

Torch-free. The reading of YAML files, and the messages about bad ones, are in recipe_file.py.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from engine.recipe.fields import (
    AUTO,
    SAMPLES,
    TEXT,
    Choices,
    Column,
    Percent,
    Section,
    Share,
    ShareField,
    ShareOrAuto,
    Slices,
    parse_share,
)
from engine.recipe.leaves import hash_of, leaves_of
from engine.recipe.margins import Forgets, OnFlag, OnForgetting, OnRise, Rises
from engine.recipe.methods import (
    DEFAULT_LR,
    DEFAULT_WARMUP,
    Adapter,
    Constrained,
    Method,
    Prefix,
    Prompt,
    Shira,
)
from engine.recipe.tasks import RATE, Classification, Dpo, Sft, Task

METRICS = ("exact_match", "rouge", "bleu", "chrf")  # engine/evals/metrics.py

# The general text that comes along, by slice, the one to replay first.
GENERAL = {
    "prose": "bundled:stdlib-prose",
    "code": "bundled:general-code",
    "chat": "bundled:general-chat",
    "arithmetic": "bundled:general-arithmetic",
    "languages": "bundled:general-languages",
}


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
        description="`bundled:NAME`, a .jsonl, .json, .csv, .tsv or .parquet file, a directory of them, or a hub id."
    )
    heldout: ShareField | str = Field(
        "10%", description="A share of the training rows, chosen by content hash, or a separate source."
    )
    replay: Replay | None = Field(None, description="General data mixed in to reduce forgetting.")
    columns: dict[Column, str] = Field(
        {},
        description="Column names of `train` and of a separate held-out source, such as `{prompt: question}`.",
    )
    reasoning: Literal["keep", "drop"] = Field(
        "keep",
        description="What the model thought before an answer (`reasoning_content`, or `<think>…</think>` in the "
        "answer): learn it with the answer, or leave it out.",
    )
    history: Literal["template", "whole"] = Field(
        "template",
        description="Where the chat template writes an answer in another way once turns follow it: learn each answer "
        "after the history that the template writes, in an example of its own (`template`), or all in one (`whole`).",
    )
    limit: int | None = Field(None, ge=1, description="Use only the first N rows (in content-hash order).")

    @field_validator("heldout")
    @classmethod
    def _check_share(cls, value: str | int) -> str | int:
        if isinstance(value, str) and re.fullmatch(r"\s*-?[\d.]+\s*%\s*", value):  # else it is a file's name
            parse_share(value)
        return value

    @property
    def heldout_share(self) -> Share | None:
        """The share of the training rows that is held out; None if held-out data are a source of their own."""
        try:
            return parse_share(self.heldout)
        except ValueError:
            return None


class Train(Section):
    epochs: float = Field(
        1.0, gt=0, description="Passes over the training data; ignored if `max_steps` is given."
    )
    max_steps: int | None = Field(None, ge=1, description="Optimiser steps.")
    lr: float | None = Field(None, gt=0, description="Peak learning rate; the default depends on the method.")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="Learning-rate curve after warm-up."
    )
    warmup: ShareField | None = Field(
        None, description="Steps of linear warm-up; the default depends on the method."
    )
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay (matrices only).")
    grad_clip: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    tokens_per_step: int = Field(
        8192, ge=1, description="Tokens (padding not counted) in one optimiser step."
    )
    micro_tokens: int = Field(4096, ge=1, description="Tokens (padding counted) in one forward pass.")
    max_length: Literal["auto"] | Annotated[int, Field(ge=2)] = Field(
        "auto", description="Longest example in tokens; longer ones are cut."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Number format of the forward pass and of frozen weights; `auto` is bf16 on hardware made for "
        "it, else fp32. Trained weights are fp32.",
    )
    optimiser: Literal["adamw", "adamw8bit", "paged_adamw", "paged_adamw8bit", "adafactor"] = Field(
        "adamw",
        description="8-bit AdamW and Adafactor need less memory; paged ones move to the host when the GPU is full.",
    )
    compile: bool = Field(
        False,
        description="Compile the model: faster steps, but the first one can take minutes. Needs a C++ compiler.",
    )
    activation_checkpointing: Literal["auto"] | bool = Field(
        "auto",
        description="Recompute activations in the backward pass: less memory, a third more time. `auto`: only if "
        "the run would not fit otherwise, by the estimate.",
    )
    memory_limit: Literal["auto"] | float = Field(
        "auto", description="Memory that the run may use, in GiB; `auto` is what the device has free."
    )
    memory_probe: bool = Field(
        True,
        description="Measure one forward and backward pass before the first step, and lower `micro_tokens` until it "
        "fits.",
    )
    sharding: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="With several processes, each holds the whole model (`ddp`) or a slice of every weight (`fsdp`).",
    )
    checkpoint_every: ShareField = Field("20%", description="Steps between checkpoints.")
    checkpoint_minutes: float | None = Field(
        10.0,
        gt=0,
        description="Minutes of work that a lost machine may cost at most: a checkpoint is saved then, too, but not so "
        "often that saving takes more than 5% of the time. `null`: only by `checkpoint_every`.",
    )
    keep_checkpoints: int = Field(2, ge=1, description="How many of the latest checkpoints stay on disk.")

    def steps_of_epoch(self, tokens: float) -> int:
        """Return the steps of one pass over so many tokens: of about equal size, none reaches into the next pass."""
        return max(1, math.ceil(tokens / self.tokens_per_step))

    def steps_of_run(self, tokens: float) -> int:
        """Return the steps of a run on so many tokens."""
        whole, part = divmod(self.epochs, 1)
        of_epoch = self.steps_of_epoch(tokens)
        return self.max_steps or int(whole) * of_epoch + math.ceil(part * of_epoch)

    def passes(self, tokens: float) -> float:
        """Return how often a run goes through so many tokens."""
        return self.max_steps / self.steps_of_epoch(tokens) if self.max_steps else self.epochs


# Of `evals.per_look`. Forgetting compares with step 0, where all is scored, so that a small part tells whether the rest
# is wanted; no flag depends on what the base model wrote.
FIRST_PARTS = {"general": 0.4, SAMPLES: 0.25}


class Evals(Section):
    every: ShareOrAuto = Field(
        AUTO,
        description="Steps between evaluations; step 0 and the end are always evaluated. `auto`: steps 5, 10, 20, 40, "
        "80, 150, then every 2% of the run, as far as `budget` allows, and every tenth of the run.",
    )
    budget: Percent = Field(
        "5%",
        description="Share of the wall time that evaluations may take with `every: auto`, not counting the tenths of "
        "the run.",
    )
    general: Slices | None = Field(
        GENERAL,
        description="Text that the base model handles well, watched for forgetting: a source, or several by name "
        "(`{mine: my.jsonl, prose: bundled:stdlib-prose}`), each a slice watched by itself. By default the text that "
        "comes along, as far as the base model knows it.",
    )
    samples: int = Field(
        100,
        ge=0,
        le=1000,
        description="Number of texts written by the base model itself, by which the distance from it is measured; "
        "0: none.",
    )
    limit: int = Field(
        300,
        ge=2,
        description="Examples scored per suite, at most; the sources of `general` share them evenly.",
    )
    per_look: int = Field(
        100,
        ge=0,
        description="Held-out examples that an evaluation scores first, two fifths as many of general text, a quarter "
        "of what the base model wrote. The rest is scored if a flag is possible, and always at step 0, at the end and, "
        "for held-out ones, once in every tenth of the run. 0: always all.",
    )
    choices: Choices = Field(
        {},
        description="Local files of multiple-choice questions by name (`{arc: arc.jsonl}`), each a slice of at most "
        "`limit` questions; scored by the likelihood of the options, before the first step and after the last.",
    )
    drift: int = Field(
        24,
        ge=0,
        le=48,
        description="Bundled general prompts, answered before the first step and after the last, to show how "
        "what the model writes has changed; 0: none.",
    )
    few_shot: int = Field(
        4,
        ge=0,
        description="Training examples put before each held-out prompt for the base model's few-shot result, computed "
        "once; 0: none.",
    )
    generate: int = Field(4, ge=0, description="Held-out prompts answered at each evaluation.")
    max_new_tokens: int = Field(48, ge=1, description="Longest answer, in tokens.")
    metrics: list[str] = Field(
        [],
        description="Metrics of these answers: `exact_match`, `rouge`, `bleu`, `chrf` (these three need the extra "
        "`metrics`), or your own `module:function`.",
    )

    def first_part(self, suite: str) -> int:
        """Return how many examples of a suite an evaluation scores first; 0: all."""
        return math.ceil(self.per_look * FIRST_PARTS.get(suite, 1.0))

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, names: list[str]) -> list[str]:
        for name in names:
            if name in METRICS or re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
                continue
            matches = difflib.get_close_matches(name, METRICS, n=1)
            hint = (
                f"did you mean {matches[0]}?"
                if matches
                else "a function of your own is written module:function"
            )
            raise ValueError(f"{name} is none of {', '.join(METRICS)}; {hint}")
        return names

    @model_validator(mode="after")
    def _check_metrics_have_answers(self) -> Evals:
        if self.metrics and not self.generate:
            raise ValueError("metrics are of answers, and generate is 0: raise it, for example to 50")
        return self


class Flags(Section):
    overfitting: Rises = Field(
        default_factory=lambda: OnRise(do="warn"),
        description="The held-out loss has risen by more than noise and a margin: `warn`, `stop`, `off` or a section.",
    )
    forgetting: Forgets = Field(
        default_factory=lambda: OnForgetting(do="warn"),
        description="The general loss is above the base model's by more than noise, a margin, and what is in "
        "proportion to the task's gain: `warn`, `stop`, `off` or a section.",
    )
    instability: OnFlag = Field(
        "warn", description="Losses or gradients jump, or the held-out and seen losses both rise."
    )
    displacement: OnFlag = Field(
        "warn",
        description="Preferences: the chosen answers become less likely, and the rejected ones even less.",
    )
    dead: OnFlag = Field(
        "warn", description="Nothing is learned: no gradient, or the seen loss does not move."
    )
    plateau: OnFlag = Field("warn", description="The held-out loss fell and has settled; information only.")
    template: OnFlag = Field("warn", description="Answers never end, or repeat themselves.")
    leak: OnFlag = Field(
        "warn",
        description="Held-out or general rows are in the training data; `stop` refuses the run before it starts.",
    )

    def action(self, kind: str) -> OnFlag:
        """Return what a flag of this key does."""
        setting: OnFlag | OnRise | OnForgetting = getattr(self, kind)
        return setting if isinstance(setting, str) else setting.do

    @property
    def may_stop(self) -> bool:
        """Whether a flag may end the run once it trains."""
        return any(self.action(kind) == "stop" for kind in type(self).model_fields if kind != "leak")


class Recipe(Section):
    """Everything about a run that is decided before it starts."""

    name: str | None = Field(None, description="Shown in lists; default: the file's name.")
    model: Annotated[ModelSpec, BeforeValidator(lambda v: {"path": v} if isinstance(v, str) else v)] = Field(
        description="The base model: a path, or a section with `path`."
    )
    method: Method = Field(description="What is trained.")
    task: Task = Field(
        default_factory=lambda: Sft(name="sft"),
        description="What the loss is: a name or a section; default `sft`.",
    )
    data: Data = Field(description="Training and held-out data.")
    train: Train = Field(default_factory=Train, description="How long, how fast, and how much at once.")
    evals: Evals = Field(default_factory=Evals, description="What is measured during training.")
    flags: Flags = Field(default_factory=Flags, description="What to do when a run goes wrong.")
    processes: int = Field(
        1,
        ge=1,
        description="Processes that share each step: one per GPU, or parts of a CPU; `train.sharding` says how.",
    )
    seed: int = Field(0, ge=0, description="Seed for data order, initialisation and dropout.")

    @model_validator(mode="after")
    def _fill_method_defaults(self) -> Recipe:
        defaults = {
            "lr": DEFAULT_LR[self.method.name] * RATE[self.task.name],
            "warmup": DEFAULT_WARMUP[self.method.name],
        }
        missing = {key: value for key, value in defaults.items() if getattr(self.train, key) is None}
        return self.model_copy(update={"train": self.train.model_copy(update=missing)}) if missing else self

    @model_validator(mode="after")
    def _check_combination(self) -> Recipe:
        if isinstance(self.method, Prefix) and self.train.activation_checkpointing is True:
            raise ValueError(
                "method prefix and train.activation_checkpointing do not go together: set the latter to false, "
                "or use method prompt"
            )
        if self.train.sharding == "fsdp" and isinstance(self.task, Classification | Dpo):
            raise ValueError(
                f"task {self.task.name} and train.sharding fsdp do not go together: use ddp, or task sft"
            )
        if self.train.sharding == "fsdp" and (self.train.optimiser != "adamw" or self.train.compile):
            raise ValueError(
                "train.sharding fsdp goes with train.optimiser adamw only, and not with train.compile: use ddp"
            )
        if self.train.sharding == "fsdp" and isinstance(self.method, Constrained):
            raise ValueError(
                f"method {self.method.name} and train.sharding fsdp do not go together: use ddp, or method lora"
            )
        if self.train.compile and isinstance(self.method, Shira):
            raise ValueError("method shira and train.compile do not go together: leave train.compile out")
        if self.data.replay and isinstance(self.task, Classification | Dpo):
            raise ValueError(
                f"task {self.task.name} and data.replay do not go together: replayed text has no "
                f"{'label' if isinstance(self.task, Classification) else 'second answer'}; leave replay out"
            )
        if isinstance(self.task, Classification) and self.evals.metrics:
            raise ValueError(
                "task classification and evals.metrics do not go together: a classifier writes no answers; "
                "accuracy and macro F1 are always measured"
            )
        if isinstance(self.task, Classification) and self.evals.choices:
            raise ValueError(
                "task classification and evals.choices do not go together: a classifier has no head to score texts with"
            )
        if isinstance(self.task, Classification) and isinstance(self.method, Adapter | Prefix | Prompt):
            raise ValueError(
                f"task classification and method {self.method.name} do not go together; use lora, ia3 or freeze"
            )
        return self

    @model_validator(mode="after")
    def _check_slices(self) -> Recipe:
        for name in self.flags.forgetting.slices:
            if name not in self.general:
                raise _at(("flags", "forgetting", name), _no_slice(self.general))
        return self

    @property
    def virtual_tokens(self) -> int:
        """Trained positions that stand before every text."""
        return self.method.tokens if isinstance(self.method, Prefix | Prompt) else 0

    @property
    def general(self) -> dict[str, str]:
        """The sources of the general suite by slice; empty for a classifier, which has no head to score text with."""
        sources = self.evals.general
        if sources is None or isinstance(self.task, Classification):
            return {}
        return {TEXT: sources} if isinstance(sources, str) else sources

    def hash(self) -> str:
        """Return the first 16 hex digits of the SHA-256 of the resolved recipe without its name."""
        return hash_of(self)

    def flat(self) -> dict[str, str]:
        """Return `{"method.r": "16", …}`: one entry per leaf, as stored in the table `params`."""
        return leaves_of(self)


def _no_slice(general: dict[str, str]) -> str:
    there = f"it has {', '.join(general)}" if general else "there is none"
    return f"no such slice of evals.general: {there}"


def _at(loc: tuple[str, ...], sentence: str) -> ValidationError:
    """Return an error about a key far from the validator that finds it."""
    what = PydanticCustomError("recipe", "{sentence}", {"sentence": sentence})
    return ValidationError.from_exception_data("Recipe", [{"type": what, "loc": loc, "input": {}}])

"""The section `task` of a recipe: what the loss is, one model per task."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from engine.recipe.fields import Section


class Sft(Section):
    name: Literal["sft"] = Field(description="Learn to write the answers of conversations.")


class Completion(Section):
    name: Literal["completion"] = Field(description="Learn to write plain text: every token is trained on.")


class Classification(Section):
    name: Literal["classification"] = Field(
        description="Learn which class a text belongs to, with a new head instead of the language-model head."
    )
    labels: list[str] | None = Field(
        None,
        description="The classes, in the order of the head's outputs; default: those in the data, sorted.",
    )

    @field_validator("labels")
    @classmethod
    def _check_labels_are_distinct(cls, labels: list[str] | None) -> list[str] | None:
        if labels is not None and len(set(labels)) != max(2, len(labels)):
            raise ValueError("give at least two classes, each once")
        return labels


class Dpo(Section):
    name: Literal["dpo"] = Field(
        description="Learn to prefer one answer to another (direct preference optimisation)."
    )
    beta: float = Field(
        0.1,
        gt=0,
        description="Strength of the pull towards the base model; smaller values allow larger changes.",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="Share of pairs assumed to be the wrong way round."
    )


def _task_by_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Task = Annotated[
    Sft | Completion | Classification | Dpo,
    Field(discriminator="name"),
    BeforeValidator(_task_by_name),
]

# Factor on the method's default learning rate. DPO pushes two answers apart and diverges at the rates of SFT: those in
# use are a tenth and less (Rafailov et al. 2023, appendix B, trained at 1e-6).
RATE = {"sft": 1.0, "completion": 1.0, "classification": 1.0, "dpo": 0.1}

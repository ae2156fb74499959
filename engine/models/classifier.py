"""A model with a classification head: its new modules, and the parts that are trained beside the method's own."""

from __future__ import annotations

from typing import Any

import torch

from engine.basics.errors import ModelError

HEADS = ("score", "classifier")  # what transformers calls them, and PEFT trains by itself
# Parts that a checkpoint of a language model may lack; none is held in 4 bits, since it may have to be trained.
MAY_BE_NEW = [*HEADS, "pre_classifier", "pooler.dense"]


def load_classifier(path: str, labels: list[str], pad: int, **options: Any) -> Any:
    """Load the model at `path` with a head for these classes, new unless it has one of that size.

    `pad`: the id of the padding token. Raises what `from_pretrained` raises, and ModelError.
    """
    from transformers import AutoModelForSequenceClassification

    model, loading_info = AutoModelForSequenceClassification.from_pretrained(
        path,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        output_loading_info=True,
        **options,
    )
    model.config.get_text_config().pad_token_id = pad
    if not any(name in HEADS for name, _ in model.named_children()):
        raise ModelError(f"{type(model).__name__} has no head known to finetui ({' or '.join(HEADS)})")
    model.new_modules = sorted({key.rpartition(".")[0] for key in loading_info["missing_keys"]})
    return model


def modules_to_save(model: Any) -> list[str] | None:
    """Return the names of the new modules besides the head, which an adapter must save too; None without classes."""
    new = getattr(model, "new_modules", None)
    return None if new is None else [name for name in new if name.partition(".")[0] not in HEADS]


def train_head(model: Any) -> None:
    """Train the head and what else is new, whatever the method froze; all that is trained is float32."""
    modules = dict(model.named_modules())
    if not hasattr(model, "peft_config"):  # PEFT trains copies, by `modules_to_save`
        for name in {*model.new_modules, *(name for name in HEADS if name in modules)}:
            modules[name].requires_grad_(True)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)

"""The loss of any task."""

from __future__ import annotations

from engine.losses.class_loss import ClassLoss
from engine.losses.dpo_loss import PairLoss
from engine.losses.loss import TargetLoss

TaskLoss = TargetLoss | ClassLoss | PairLoss


def routers_of(loss: TaskLoss) -> TargetLoss | None:
    """Return the language model in a loss, if the balance of its routers is part of that loss."""
    inner = loss.token_loss if isinstance(loss, PairLoss) else loss
    return inner if isinstance(inner, TargetLoss) and inner.router is not None else None

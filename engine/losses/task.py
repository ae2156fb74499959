"""The loss of any task."""

from __future__ import annotations

from engine.losses.class_loss import ClassLoss
from engine.losses.dpo_loss import PairLoss
from engine.losses.loss import TargetLoss

TaskLoss = TargetLoss | ClassLoss | PairLoss

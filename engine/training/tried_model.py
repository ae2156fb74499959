"""What was tried on a model before training, kept for the next run with the same model and method in the same home.

Tried are a few tokens: is it computed as finetui does it, is it causal, can its rows be packed. That depends on the
model's files, how they are loaded, the code and the libraries. Only what went well is kept.
"""

from __future__ import annotations

import json
from typing import Any

import torch

from engine.basics import cache_files
from engine.data import data_cache
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from engine.training.base_cache import loaded_key

MAX_FILES = 500


class TriedModel:
    """What is known of a model as one run loads it."""

    def __init__(self, run: RunDir, recipe: Recipe, model: Any, dtype: torch.dtype) -> None:
        loading = f"{recipe.processes} {recipe.train.sharding} {dtype} {model.device.type}"
        name = loaded_key(recipe, model, loading, data_cache.code())
        directory = run.cache("tried")
        self._path = directory / f"{name}.json" if directory else None

    @property
    def packed(self) -> bool | None:
        """Whether its rows can be packed; None where it was not tried, or the file is damaged."""
        try:
            found = json.loads(cache_files.read(self._path))["packed"] if self._path else None
        except (KeyError, TypeError, ValueError):
            return None
        return found if isinstance(found, bool) else None

    def keep(self, packed: bool) -> None:
        """Keep that the model passed, and whether its rows can be packed."""
        if self._path:
            cache_files.write(self._path, json.dumps({"packed": packed}).encode(), MAX_FILES)

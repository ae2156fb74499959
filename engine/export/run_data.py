"""The data of a run, as its training read them."""

from __future__ import annotations

from typing import Any

from engine.export.source import Source
from engine.models import load
from engine.tasks.prepare import Prepared
from engine.tasks.prepared_cache import prepare_once


def data_of(source: Source, tokenizer: Any) -> Prepared:
    """Return the rows and suites of a run. Raises DataError."""
    recipe = source.recipe
    return prepare_once(recipe, tokenizer, load.longest(recipe.model, tokenizer), source.run.cache("data"))

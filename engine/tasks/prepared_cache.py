"""Prepared data, cached by content: the later runs of a sweep begin with what the first one tokenised and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.data import data_cache
from engine.data.template import ensure_template
from engine.models.source import locate, model_files_digest
from engine.recipe.sections import Recipe
from engine.recipe.tasks import Classification
from engine.tasks.prepare import Prepared, prepare


def prepare_once(recipe: Recipe, tokenizer: Any, longest: int, directory: Path | None) -> Prepared:
    """Return what `prepare` does, from the cache in `directory` where the same was prepared before; None: no cache.

    Raises DataError and ModelError.
    """
    reduced = data_cache.data_recipe(recipe)
    name = _key(reduced, longest) if directory else None
    if directory is None or name is None:
        return prepare(reduced, tokenizer, longest)
    if isinstance(cached := data_cache.load(directory / name), Prepared):
        if not isinstance(recipe.task, Classification):
            ensure_template(tokenizer)  # as `prepare` does
        return cached
    prepared = prepare(reduced, tokenizer, longest, data_cache.gather_once(reduced, directory))
    if _key(reduced, longest) == name:  # else a source has changed meanwhile
        data_cache.store(directory / name, prepared, sum(item.tokens.nbytes for item in prepared.train))
    return prepared


def _key(recipe: Recipe, longest: int) -> str | None:
    """Return the name of the file; None where it is not known which tokenizer it is."""
    of_tokenizer = _tokenizer_key(recipe.model.path)
    return data_cache.key("examples", recipe, str(longest), of_tokenizer) if of_tokenizer else None


def _tokenizer_key(path: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    if directory := locate(path):
        return model_files_digest(directory)
    found = try_to_load_from_cache(path, "tokenizer_config.json")
    return f"{path}@{Path(found).parent.name}" if isinstance(found, str) else None  # named by the commit

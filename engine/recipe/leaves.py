"""A resolved recipe as its hash, and as one entry per leaf."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from finetui.hashes import short_hash


def hash_of(recipe: BaseModel) -> str:
    """Return the first 16 hex digits of the SHA-256 of a resolved recipe without its name."""
    return short_hash(recipe.model_dump(mode="json", exclude={"name"}))


def leaves_of(recipe: BaseModel) -> dict[str, str]:
    """Return `{"method.r": "16", …}`: one entry per leaf, as stored in the table `params`."""
    return dict(_leaves(recipe.model_dump(mode="json"), ""))


def _leaves(value: Any, prefix: str) -> Any:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else key)
    elif value is not None:
        yield prefix, value if isinstance(value, str) else json.dumps(value)

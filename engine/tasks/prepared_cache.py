"""Prepared data, cached by content: the later runs of a sweep begin with what the first one tokenised and checked.

Files are named by a digest of all that the result depends on: the content of every source, the tokenizer's files, the
keys of the recipe that say how rows become examples, and the code. A file that is missing or damaged costs the
preparation, nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import io
import json
import pickle
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import transformers

import engine
from engine.basics import cache_files
from engine.data import sources
from engine.data.template import ensure_template
from engine.models.source import locate, model_files_digest
from engine.recipe.methods import Full
from engine.recipe.sections import Evals, Flags, Recipe, Train
from engine.recipe.tasks import Classification
from engine.tasks.prepare import Prepared, prepare

MAX_FILES = 20
MAX_BYTES = 2 * 2**30
# What a file may be made of beside dataclasses of ours: a file of somebody else's is not run.
_ARRAYS = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "_reconstruct"),
}


def prepare_once(recipe: Recipe, tokenizer: Any, longest: int, directory: Path | None) -> Prepared:
    """Return what `prepare` does, from the cache in `directory` where the same was prepared before; None: no cache.

    Raises DataError and ModelError.
    """
    reduced = data_recipe(recipe)
    key = _key(reduced, longest) if directory else None
    if directory is None or key is None:
        return prepare(reduced, tokenizer, longest)
    if (cached := _loaded(cache_files.read(directory / key))) is not None:
        if not isinstance(recipe.task, Classification):
            ensure_template(tokenizer)  # as `prepare` does
        return cached
    prepared = prepare(reduced, tokenizer, longest)
    if _size(prepared) <= MAX_BYTES and _key(reduced, longest) == key:  # else a source has changed meanwhile
        content = pickle.dumps(prepared, protocol=pickle.HIGHEST_PROTOCOL)
        cache_files.write(directory / key, content, MAX_FILES, MAX_BYTES)
    return prepared


def data_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe with defaults for all that says nothing of its data: runs that are equal in it share them."""
    evals, train = recipe.evals, recipe.train
    return recipe.model_copy(
        update={
            "name": None,
            "method": Full(name="full"),
            "train": Train(max_length=train.max_length, micro_tokens=train.micro_tokens),
            "evals": Evals(general=evals.general, limit=evals.limit, choices=evals.choices),
            "flags": Flags(leak=recipe.flags.leak),
            "processes": 1,
            "seed": 0,
        }
    )


def _key(recipe: Recipe, longest: int) -> str | None:
    """Return the name of the file; None where it is not known which tokenizer it is."""
    if (of_tokenizer := _tokenizer_key(recipe.model.path)) is None:
        return None
    data, evals = recipe.data, recipe.evals
    named = [data.train, *recipe.general.values(), *evals.choices.values()]
    named += [str(data.heldout)] if data.heldout_share is None else []
    named += [data.replay.source] if data.replay else []
    parts = {
        "recipe": recipe.model_dump(mode="json"),
        "longest": longest,
        "sources": {source: sources.identity(source) for source in named},
        "tokenizer": of_tokenizer,
        "code": _code_key(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _tokenizer_key(path: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    if directory := locate(path):
        return model_files_digest(directory)
    found = try_to_load_from_cache(path, "tokenizer_config.json")
    return f"{path}@{Path(found).parent.name}" if isinstance(found, str) else None  # named by the commit


@cache
def _code_key() -> str:
    """Return what tells this code, and the libraries that it tokenises with, from any other."""
    digest = hashlib.sha256(
        f"{sys.version} {np.__version__} {transformers.__version__} {tokenizers.__version__}".encode()
    )
    root = Path(engine.__path__[0])
    for file in sorted(root.rglob("*.py")):
        digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return digest.hexdigest()


def _size(prepared: Prepared) -> int:
    """Return about how many bytes the examples take."""
    return sum(item.tokens.nbytes for item in prepared.train)


def _loaded(content: bytes) -> Prepared | None:
    if not content:
        return None
    try:
        prepared = _Unpickler(io.BytesIO(content)).load()
    except Exception:  # whatever a file from another time may lack
        return None
    return prepared if isinstance(prepared, Prepared) else None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = getattr(importlib.import_module(module), name) if _may_hold(module, name) else None
        if found is None or not ((module, name) in _ARRAYS or dataclasses.is_dataclass(found)):
            raise pickle.UnpicklingError(f"{module}.{name} is no part of prepared data")
        return found


def _may_hold(module: str, name: str) -> bool:
    return (module, name) in _ARRAYS or module.startswith(("engine.data.", "engine.tasks."))

"""What a recipe's sources hold, cached by content: what was read and searched for leaks once is not again.

Files are named by a digest of all that the result depends on: the content of every source, the keys of the recipe that
say how rows are used, and the code. A file that is missing or damaged costs the computation, nothing else.
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

import engine
from engine.basics import cache_files
from engine.data import sources
from engine.data.gather import RunData, gather
from engine.recipe.methods import Full
from engine.recipe.sections import Evals, Flags, ModelSpec, Recipe, Train

MAX_FILES = 40
MAX_BYTES = 2 * 2**30
# What a file may be made of beside dataclasses of ours: a file of somebody else's is not run.
_BUILT = {
    ("collections", "Counter"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "_reconstruct"),
}


def gather_once(recipe: Recipe, directory: Path | None) -> RunData:
    """Return what `gather` does, from the cache in `directory` where the same was gathered before; None: no cache.

    Raises DataError.
    """
    rows_alone = data_recipe(recipe).model_copy(update={"train": Train(), "model": ModelSpec(path="any")})
    if directory is None:
        return gather(rows_alone)
    name = key("rows", rows_alone)
    if isinstance(cached := load(directory / name), RunData):
        return cached
    gathered = gather(rows_alone)
    if key("rows", rows_alone) == name:  # else a source has changed meanwhile
        store(directory / name, gathered, sum(source.fingerprint.bytes for source in gathered.sources))
    return gathered


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


def key(kind: str, recipe: Recipe, *others: str) -> str:
    """Return the name of the file of what is made of a recipe's sources as they are now. Raises DataError."""
    data = recipe.data
    named = [data.train, *recipe.general.values(), *recipe.evals.choices.values()]
    named += [str(data.heldout)] if data.heldout_share is None else []
    named += [data.replay.source] if data.replay else []
    parts = {
        "recipe": recipe.model_dump(mode="json"),
        "sources": {source: sources.identity(source) for source in named},
        "code": code(),
        "others": others,
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    return f"{kind}-{digest.hexdigest()[:32]}"


def load(path: Path) -> Any:
    """Return what was stored; None where there is none, or nothing that can be read."""
    content = cache_files.read(path)
    try:
        return _Unpickler(io.BytesIO(content)).load() if content else None
    except Exception:  # whatever a file from another time may lack
        return None


def store(path: Path, made: Any, size: int) -> None:
    """Write a file; `size`: about how many bytes it will have."""
    if size <= MAX_BYTES:
        content = pickle.dumps(made, protocol=pickle.HIGHEST_PROTOCOL)
        cache_files.write(path, content, MAX_FILES, MAX_BYTES)


@cache
def code() -> str:
    """Return what tells this code, and the libraries that read and tokenise for it, from any other. The pool calls it
    for its forks, which would all read the same files.
    """
    versions = [version(name) for name in ("numpy", "datasets", "transformers", "tokenizers", "pyarrow")]
    digest = hashlib.sha256(" ".join([sys.version, *versions]).encode())
    root = Path(engine.__path__[0])
    for file in sorted(root.rglob("*.py")):
        digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return digest.hexdigest()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        ours = module.startswith(("engine.data.", "engine.tasks."))
        known = (module, name) in _BUILT
        found = getattr(importlib.import_module(module), name) if ours or known else None
        if not known and not dataclasses.is_dataclass(found):
            raise pickle.UnpicklingError(f"{module}.{name} is no part of cached data")
        return found

"""What a run's method begins from, made once and kept in the run's directory: `start.safetensors`.

Adapters that begin from data see some training texts, chosen by the seed. A later attempt, and an export of a
checkpoint, read the file: another machine would make slightly other numbers, and the weights were learned on top of
these.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from engine.basics.errors import ModelError
from engine.data.gather import check_spare
from engine.models.load import start_of
from engine.models.start import NOTHING, Start, Text, makes_start
from engine.recipe.methods import Lora, Method
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from engine.tasks.items import Item, Labelled, Pair
from engine.tasks.prepare import Prepared
from finetui.errors import first_line
from finetui.files import open_regular, whole_file

FILE = "start.safetensors"
TEXTS = 256  # that an adapter begins from


def begin_from(run: RunDir, recipe: Recipe, data: Prepared) -> Start:
    """Return what a run begins from: its own file, or texts to begin from. Raises ModelError and DataError."""
    start = kept(run, recipe.method)
    if start.made is not None or not (isinstance(recipe.method, Lora) and recipe.method.learns_from_data):
        return start
    check_spare(recipe.method, data.spare)
    examples = data.spare if recipe.method.begins_from_general else data.train
    order = np.random.default_rng(recipe.seed).permutation(len(examples))
    return Start(texts=[_text(examples[n]) for n in order[:TEXTS]])


def kept(run: RunDir, method: Method) -> Start:
    """Return what an earlier attempt of a run made. Raises ModelError."""
    path = run.path / FILE
    if not makes_start(method) or not path.exists():
        return NOTHING
    try:
        open_regular(path).close()
        return Start(made=load_file(path))
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read ({first_line(error)}), and the weights were learned on top of it; requeue the run"
        ) from None


def keep(run: RunDir, model: Any, method: Method) -> None:
    """Keep what a method made of base and data, whole or not at all."""
    if makes_start(method) and not (run.path / FILE).exists():
        with whole_file(run.path / FILE) as temporary:
            save_file(start_of(model, method), temporary)


def _text(item: Item) -> Text:
    if isinstance(item, Labelled):
        return Text(item.tokens, np.ones(len(item.tokens), bool))
    example = item.chosen if isinstance(item, Pair) else item
    return Text(example.tokens, example.mask)

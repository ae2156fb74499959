"""Turn the weights that a run saved, or those of a checkpoint, into a whole model."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from engine.basics.errors import DataError, ExportError
from engine.data.template import ensure_template
from engine.export.compare import compare
from engine.export.factors import Scalable, load_whole
from engine.export.result import Difference
from engine.export.source import Source, choose_checkpoint
from engine.models import load
from engine.models.source import resolve
from engine.models.tokenizer import load_tokenizer
from engine.training import beginning, checkpoint
from store.lines import End

Progress = Callable[[str], None]

COMPARED_EXAMPLES = 64  # held-out examples
MERGE_TOLERANCE = 0.1  # of the spread of the logits: more than rounding to 16 bits ever does


@contextmanager
def weights_of(
    source: Source, checkpoint_name: str | None, factor: float, progress: Progress
) -> Iterator[tuple[int, Path]]:
    """Yield the step and the directory of the exported weights: the finished ones, or those of a checkpoint; scaled
    by a factor.
    """
    with _trained_weights(source, checkpoint_name, progress) as (step, weights):
        if factor == 1:
            yield step, weights
            return
        progress(f"scaling by {factor:g}")
        with tempfile.TemporaryDirectory(prefix="finetui-") as temporary:
            Scalable(source, weights, training_dtype(source)).save(factor, Path(temporary))
            yield step, Path(temporary)


@contextmanager
def _trained_weights(
    source: Source, checkpoint_name: str | None, progress: Progress
) -> Iterator[tuple[int, Path]]:
    if checkpoint_name is None:
        yield finished_step(source), source.weights
        return
    step, path = choose_checkpoint(source, checkpoint_name)
    recipe = source.recipe
    progress(f"reading the checkpoint of step {step}")
    with tempfile.TemporaryDirectory(prefix="finetui-") as temporary:
        start = beginning.kept(source.run, recipe.method)
        model = load.load_model(recipe.model, recipe.method, training_dtype(source), start=start)
        checkpoint.load_weights(path, model)
        load.save_model(model, recipe.method, Path(temporary))
        tokenizer = load_tokenizer(recipe.model)
        if recipe.task.name != "classification":
            ensure_template(tokenizer)  # as in training
        tokenizer.save_pretrained(temporary)
        yield step, Path(temporary)


def merge(source: Source, weights: Path, dtype: torch.dtype, progress: Progress) -> Any:
    """Merge into a whole model in `dtype`, on the CPU. Raises ExportError where that changes its output."""
    from peft import PeftModel

    path = str(weights) if source.whole_model else resolve(source.recipe.model.path)
    progress(f"loading {path}")
    base = load_whole(path, source, dtype)
    if source.whole_model:
        return base
    adapted = PeftModel.from_pretrained(base, weights).eval()
    before = _some_logits(adapted)
    progress("merging")
    merged = adapted.merge_and_unload(safe_merge=True)
    moved = (_some_logits(merged) - before).abs().mean() / before.std()
    if not moved < MERGE_TOLERANCE:
        raise ExportError(
            f"merging changes the model's output (logits move by {moved:.2f} of their spread), perhaps because an "
            "adapter sits on a weight that is used in two places; use --adapter"
        )
    return merged


def compare_quantised(source: Source, weights: Path, merged: Any, progress: Progress) -> Difference | str:
    """Compare the merged model with the 4-bit base and its adapter, on held-out examples of the run; or say why not."""
    from peft import set_peft_model_state_dict

    from engine.export.run_data import data_of
    from engine.tasks.items import Labelled, Pair

    recipe = source.recipe
    tokenizer = load_tokenizer(recipe.model)
    progress("reading the held-out examples")
    try:
        data = data_of(source, tokenizer)
    except DataError as error:
        return f"not compared, since the held-out examples cannot be read again ({error})"
    trained = load.load_model(recipe.model, recipe.method, training_dtype(source))
    set_peft_model_state_dict(trained, load_file(weights / "adapter_model.safetensors"))
    items = data.suite("heldout").examples[:COMPARED_EXAMPLES]
    examples = [e.chosen if isinstance(e, Pair) else e for e in items if not isinstance(e, Labelled)]
    return compare(trained.eval(), merged.eval(), examples, progress)


def training_dtype(source: Source) -> torch.dtype:
    """Return the number format that the run computed in, which need not be this machine's choice."""
    return torch.bfloat16 if source.precision == "bf16" else torch.float32


def finished_step(source: Source) -> int:
    """Return the step whose weights were saved: the last, or the one that was kept when a flag stopped the run."""
    end = source.last(End) or End()
    if end.kept_step is not None:
        return end.kept_step
    kept = re.search(r"; the weights of step (\d+) are kept", end.reason or "")  # by an older finetui
    return int(kept[1]) if kept else end.step


@torch.no_grad()
def _some_logits(model: Any) -> torch.Tensor:
    ids = torch.arange(1, 17)[None]
    return model(input_ids=ids).logits[0].float()

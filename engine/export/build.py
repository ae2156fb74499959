"""Making the folder: an adapter or a model copied, or an adapter merged into its base."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from engine.basics.errors import ExportError
from engine.export import gguf
from engine.export.card import card
from engine.export.made import Difference, Exported
from engine.export.source import Source
from engine.export.weights import compare_quantised, merge, weights_of
from engine.export.wish import DTYPES, Wish
from engine.recipe.methods import QLora
from finetui.files import write_directory


def export(source: Source, wish: Wish, say: Callable[[str], None]) -> dict[str, Any]:
    """Make the folder and its card; what was made, for JSON.

    Raises ExportError, and ModelError and DataError where the base or the held-out data are gone.
    """
    found: list[Exported] = []

    def fill(folder: Path) -> None:
        with weights_of(source, wish.checkpoint, say) as (step, weights):
            comparison = None
            if wish.kind == "gguf":
                with tempfile.TemporaryDirectory(prefix="finetui-") as model:
                    comparison = _merged(source, wish, weights, Path(model), say)
                    say("converting to GGUF")
                    gguf.convert(Path(model), folder / gguf.FILE, wish.dtype)
            elif wish.kind == "merged":
                comparison = _merged(source, wish, weights, folder, say)
            else:
                say("copying")
                shutil.copytree(
                    weights, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("COMPLETE")
                )
        dtype = DTYPES[wish.dtype] if wish.kind in ("merged", "gguf") else None
        found.append(Exported(wish.kind, wish.out, step, dtype, comparison))
        (folder / "README.md").write_text(card(source, found[0]))

    try:
        write_directory(wish.out, fill)
    except (OSError, SafetensorError) as error:
        raise ExportError(
            f"{wish.out} could not be written ({error}); make room, or choose another --out"
        ) from None
    return found[0].as_dict()


def _merged(
    source: Source, wish: Wish, weights: Path, folder: Path, say: Callable[[str], None]
) -> Difference | str | None:
    from transformers import AutoTokenizer

    model = merge(source, weights, getattr(torch, DTYPES[wish.dtype]), say)
    say(f"saving in {DTYPES[wish.dtype]}")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(weights).save_pretrained(folder)
    if not isinstance(source.recipe.method, QLora):
        return None
    comparison = compare_quantised(source, weights, model, say)
    say(f"what the merge changed: {comparison}")
    return comparison

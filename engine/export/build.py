"""Make the folder: copy an adapter or a model, or merge an adapter into its base."""

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
from engine.export import scale_log as log
from engine.export.card import card
from engine.export.request import DTYPES, ExportRequest
from engine.export.result import Difference, ExportResult
from engine.export.source import Source
from engine.export.weights import compare_quantised, merge, weights_of
from engine.recipe.methods import QLora
from finetui.files import write_directory
from store.scale_lines import Scaled


def export(source: Source, request: ExportRequest, progress: Callable[[str], None]) -> dict[str, Any]:
    """Make the folder and its card; return the result for JSON.

    Raises ExportError, and ModelError and DataError where the base or the held-out data are gone.
    """
    results: list[ExportResult] = []

    def fill(folder: Path) -> None:
        with weights_of(source, request.checkpoint, request.factor, progress) as (step, weights):
            comparison = None
            if request.kind == "gguf":
                with tempfile.TemporaryDirectory(prefix="finetui-") as model:
                    comparison = _merge_into(source, request, weights, Path(model), progress)
                    progress("converting to GGUF")
                    gguf.convert(Path(model), folder / gguf.FILE, request.dtype)
            elif request.kind == "merged":
                comparison = _merge_into(source, request, weights, folder, progress)
            else:
                progress("copying")
                shutil.copytree(
                    weights, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("COMPLETE")
                )
        dtype = DTYPES[request.dtype] if request.kind in ("merged", "gguf") else None
        results.append(ExportResult(request.kind, request.out, step, dtype, comparison, request.factor))
        (folder / "README.md").write_text(card(source, results[0]))

    try:
        write_directory(request.out, fill)
    except (OSError, SafetensorError) as error:
        raise ExportError(
            f"{request.out} could not be written ({error}); make room, or choose another --out"
        ) from None
    if request.factor != 1:
        log.append(source, Scaled(request.factor, results[0].step, request.kind, str(request.out)))
    return results[0].as_dict()


def _merge_into(
    source: Source, request: ExportRequest, weights: Path, folder: Path, progress: Callable[[str], None]
) -> Difference | str | None:
    from transformers import AutoTokenizer

    model = merge(source, weights, getattr(torch, DTYPES[request.dtype]), progress)
    progress(f"saving in {DTYPES[request.dtype]}")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(weights).save_pretrained(folder)
    if not isinstance(source.recipe.method, QLora):
        return None
    comparison = compare_quantised(source, weights, model, progress)
    progress(f"what the merge changed: {comparison}")
    return comparison

"""What somebody asked to export, and whether it can be done. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.basics.errors import ExportError
from engine.export import gguf
from engine.export.source import Source, choose_checkpoint, refuse_unfinished
from engine.recipe.methods import Adapter, Prefix, Prompt

Kind = Literal["adapter", "model", "merged", "gguf"]

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Wish:
    """A folder to make."""

    kind: Kind
    out: Path
    dtype: str = "bf16"  # of a merged model or GGUF file, a key of DTYPES
    force: bool = False  # replace `out`
    checkpoint: str | None = None  # a step, `best` or `last`, instead of the finished weights


def kind_of(source: Source, asked: str | None) -> Kind:
    """What to make; without a word, what the run left. Raises ExportError."""
    method = source.recipe.method
    if asked in ("merged", "gguf"):
        if isinstance(method, Adapter):
            raise ExportError(
                f"run #{source.number} trained bottleneck adapters, which compute something no base weight can "
                "hold; use --adapter and load it beside the base, or train with method lora"
            )
        if isinstance(method, Prefix | Prompt):
            raise ExportError(
                f"run #{source.number} trained virtual tokens ({method.name}), which are not weights of the base; "
                "use --adapter and load it beside the base, or train with method lora"
            )
        return "merged" if asked == "merged" else "gguf"
    if asked == "adapter" and source.whole_model:
        raise ExportError(
            f"run #{source.number} trained the base's own weights ({method.name}), so there is no adapter; "
            "leave --adapter out for the model as it is, or use --merged for it in 16 bits"
        )
    return "model" if source.whole_model else "adapter"


def check(source: Source, wish: Wish) -> None:
    """Raises ExportError if the run has no such weights or the folder is taken."""
    if wish.kind == "gguf":
        gguf.converter()
    if wish.checkpoint is None:
        refuse_unfinished(source)
    else:
        choose_checkpoint(source, wish.checkpoint)
    if wish.out.exists() and not wish.force:
        raise ExportError(f"{wish.out} exists; choose another --out, or replace it with --force")
    if wish.out.exists() and not wish.out.is_dir():
        raise ExportError(f"{wish.out} is not a folder; choose another --out")
    if wish.out.resolve().is_relative_to(source.run.path.resolve()):
        raise ExportError(f"{wish.out} is inside the run's own directory; choose another --out")

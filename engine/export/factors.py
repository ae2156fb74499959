"""What a run trained, at any factor between nothing of it (0: the base model) and all of it (1).

- weights of the base (`full`, `freeze`): W0 + t (W - W0), interpolated (Wortsman et al. 2022, arXiv:2109.01903)
- LoRA, and OSF, which is saved as LoRA: B is multiplied by t, and so is all that the adapter adds; DoRA's magnitudes
  begin at the base's norms
- SHiRA: what is added to each weight is multiplied by t
- OFT: the skew-symmetric matrices that make the rotations are multiplied by t, so that it turns by about t of the angle
- bottleneck adapters: the layer that goes up, to which the residual is added, is multiplied by t
- IA3: 1 + t (l - 1)

The weights themselves are scaled, so whatever loads the trained ones loads these.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from engine.basics.errors import ExportError
from engine.export.source import Source
from engine.models import load
from engine.recipe.methods import Adapter, Freeze, Full, Lora, Method, Osf
from finetui import bottleneck
from finetui.errors import first_line

PEFT_WEIGHTS = "adapter_model.safetensors"
# Tensors of a saved adapter by the last part of their names: those that are multiplied; the one that begins at one; the
# one that begins at a norm of the base. Others only give the direction in which the adapter goes, and stay.
MULTIPLIED = ("lora_B", "lora_embedding_B", "up", "shira_weight", "oft_R")
FROM_ONE = "ia3_l"
FROM_START = "lora_magnitude_vector"
DIRECTIONS = ("lora_A", "lora_embedding_A", "down", "shira_indices")


def scaled(
    tensors: Mapping[str, torch.Tensor], factor: float, start: Mapping[str, torch.Tensor]
) -> dict[str, Any]:
    """Return the tensors of a saved adapter at a factor. `start`: those of a new adapter. Raises ExportError for one
    that it does not know.
    """
    return {name: _scaled(name, tensor, factor, start) for name, tensor in tensors.items()}


def _scaled(
    name: str, tensor: torch.Tensor, factor: float, start: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    part = _part(name)
    if part in MULTIPLIED:
        return tensor * factor
    if part == FROM_ONE:
        return 1 + factor * (tensor - 1)
    if part == FROM_START:
        return torch.lerp(start[name].to(tensor), tensor, factor)
    if part in DIRECTIONS:
        return tensor
    raise ExportError(f"the weights {name} of this adapter have no scale that finetui knows")


def _part(name: str) -> str:
    """Return which tensor of a layer it is: `lora_A` of `….q_proj.lora_A.weight`."""
    return next(part for part in reversed(name.split(".")) if part not in ("weight", "bias"))


class Scalable:
    """The model of a finished run with what it trained at any factor; on the run's device and in its precision.

    Of the base's own weights, three copies are held: the model, and on the CPU where it started and where it ended.
    """

    def __init__(self, source: Source, weights: Path, dtype: torch.dtype) -> None:
        """Raises ExportError and ModelError."""
        self.method, self._weights = source.recipe.method, weights
        try:
            self.model = _load(source, weights, dtype).eval()
            self._start, self._trained = self._ends(source)
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise ExportError(
                f"{weights}: the weights of run #{source.number} cannot be read "
                f"({first_line(error)}); train it again: finetui requeue {source.number}"
            ) from None

    def set(self, factor: float) -> None:
        """Put in the weights of a factor. Raises ExportError."""
        if _is_whole(self.method):
            return self._interpolate(factor)
        tensors = scaled(self._trained, factor, self._start)
        if isinstance(self.method, Adapter):
            return bottleneck.set_weights(self.model, tensors)
        from peft import set_peft_model_state_dict

        put = set_peft_model_state_dict(self.model, tensors)
        if put.unexpected_keys:
            raise ExportError(
                f"{self._weights}: {put.unexpected_keys[0]} has no place in this base model; is it another one now?"
            )
        return None

    def save(self, factor: float, directory: Path) -> None:
        """Write the weights of a factor as the run saved its own, tokenizer and all; `directory` exists."""
        whole = _is_whole(self.method)
        ignored = ("COMPLETE", "*.safetensors", "*.safetensors.index.json") if whole else ("COMPLETE",)
        shutil.copytree(self._weights, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*ignored))
        if whole:
            self._interpolate(factor)
            load.save_model(self.model, self.method, directory)
            return
        tensors = scaled(self._trained, factor, self._start)
        save_file(tensors, directory / _weights_file(self.method), metadata={"format": "pt"})

    def _ends(self, source: Source) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Return the weights at 0 and at 1, by name; of adapters at 0 only what PEFT gives a name to."""
        if _is_whole(self.method):
            start = {
                name: p.detach().cpu().clone() for name, p in self.model.named_parameters() if p.requires_grad
            }
            tuned = load_whole(str(self._weights), source, torch.float32)
            return start, dict(tuned.named_parameters())
        trained = load_file(self._weights / _weights_file(self.method))
        if isinstance(self.method, Adapter):
            return {}, trained
        from peft import get_peft_model_state_dict

        start = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        return {
            name: value.detach().cpu() for name, value in start.items() if _part(name) == FROM_START
        }, trained

    @torch.no_grad()
    def _interpolate(self, factor: float) -> None:
        for name, parameter in self.model.named_parameters():
            if name in self._start:
                start, end = self._start[name].float(), self._trained[name].float()
                parameter.copy_(torch.lerp(start, end, factor))


def _is_whole(method: Method) -> bool:
    """Whether the method trains the base's own weights."""
    return isinstance(method, Full | Freeze)


def _load(source: Source, weights: Path, dtype: torch.dtype) -> Any:
    """Load the unchanged base with an adapter like the saved one. What began elsewhere (PiSSA), or is a change of
    pieces of the base (OSF), was saved as plain LoRA of another rank.
    """
    method, spec = source.recipe.method, source.recipe.model
    if isinstance(method, Osf):
        from peft import PeftModel

        base = load.load_model(spec, Lora(name="lora", r=1, targets=method.targets), dtype).unload()
        return PeftModel.from_pretrained(base, weights)
    if not isinstance(method, Lora):
        return load.load_model(spec, method, dtype)
    saved = json.loads((weights / "adapter_config.json").read_text())
    plain = method.model_copy(update={"init": "default", "r": saved["r"], "alpha": saved["lora_alpha"]})
    return load.load_model(spec, plain, dtype)


def _weights_file(method: Method) -> str:
    return bottleneck.WEIGHTS_FILE if isinstance(method, Adapter) else PEFT_WEIGHTS


def load_whole(path: str, source: Source, dtype: torch.dtype) -> Any:
    """Load a whole model of a run's kind on the CPU. Raises ExportError."""
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, use_safetensors=True, trust_remote_code=source.recipe.model.trust_remote_code
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ExportError(f"model {path}: cannot be loaded ({first_line(error)})") from None

"""Bottleneck adapters: small two-layer networks with a residual, inserted into each block of a frozen model.

    y ← y + up(activation(down(y)))

stands right after the output projection of attention and of the MLP, before the block's own residual sum:
after both in Houlsby et al. 2019 (arXiv:1902.00751, figure 2), after the MLP only in Pfeiffer et al. 2021
(arXiv:2005.00247). Layer norms stay frozen here, so that several adapters can share one base. `up` begins
at zero, so that a new adapter changes nothing. Nothing is ever merged: at inference the same path runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from finetui.errors import FinetuiError, first_line

CONFIG_FILE, WEIGHTS_FILE = "bottleneck.json", "bottleneck.safetensors"

# Where a block's output projections are, by what transformers calls them (first match counts).
PROJECTIONS = {
    "attention": (
        "self_attn.o_proj",  # Llama, Mistral, Qwen, Gemma, Phi-3, OLMo, Granite, Cohere, StarCoder 2
        "self_attn.dense",  # Phi
        "self_attn.out_proj",  # OPT
        "attn.c_proj",  # GPT-2
        "attn.out_proj",  # GPT-J
        "attn.attention.out_proj",  # GPT-Neo
        "attention.dense",  # GPT-NeoX, Pythia
        "self_attention.dense",  # Falcon, Bloom
        "attention.output.dense",  # BERT, RoBERTa, ELECTRA, DeBERTa
        "attention.out_lin",  # DistilBERT
        "attn.Wo",  # ModernBERT
    ),
    "mlp": (
        "mlp.down_proj",  # Llama and its kin
        "mlp.fc2",  # Phi
        "mlp.c_proj",  # GPT-2, GPT-Neo, StarCoder 2
        "mlp.fc_out",  # GPT-J
        "mlp.dense_4h_to_h",  # GPT-NeoX, Falcon, Bloom
        "mlp.Wo",  # ModernBERT
        "fc2",  # OPT
        "ffn.lin2",  # DistilBERT
        "output.dense",  # BERT and its kin
    ),
}


class AdapterError(FinetuiError):
    """An adapter that cannot be added, loaded or used; `str()` is one sentence."""


class Bottleneck(BaseModel):
    """The configuration of an adapter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    reduction: int = Field(16, ge=1)  # width of the model / width of the bottleneck
    size: int | None = Field(None, ge=1)  # width of the bottleneck itself; wins over `reduction`
    activation: Literal["relu", "gelu", "silu"] = "gelu"

    @property
    def places(self) -> tuple[str, ...]:
        return ("attention", "mlp") if self.placement == "houlsby" else ("mlp",)

    def width(self, model_width: int) -> int:
        """Width of the bottleneck in a model of `model_width`."""
        return self.size or max(1, model_width // self.reduction)


class SavedAdapter(BaseModel):
    """`bottleneck.json`: what an adapter is and which base it belongs to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    base: str  # name or path of the base model
    model_type: str
    blocks: int
    config: Bottleneck


class Adapter(nn.Module):
    """One adapter at one place, float32: [..., width] to [..., width] in the dtype of its input."""

    def __init__(self, width: int, config: Bottleneck) -> None:
        super().__init__()
        self.down = nn.Linear(width, config.width(width), dtype=torch.float32)
        self.up = nn.Linear(config.width(width), width, dtype=torch.float32)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.config = config

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        full = hidden.to(self.down.weight.dtype)
        # Summed before rounding: a small correction must not be lost in a bfloat16 sum of its own.
        inner = getattr(F, self.config.activation)(self.down(full))
        return (full + self.up(inner)).to(hidden.dtype)


class Adapted(nn.Module):
    """An output projection with the adapters that may follow it, of which at most one is active."""

    def __init__(self, base: nn.Module, key: str) -> None:
        super().__init__()
        self.base = base
        self.key = key
        self.adapters = nn.ModuleDict()
        self.active: str | None = None
        self.train(base.training)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        output = self.base(hidden)
        if self.active is not None and self.active in self.adapters:
            output = self.adapters[self.active](output)
        return output


class Site(NamedTuple):
    """A place for adapters: `key` is `BLOCK.attention` or `BLOCK.mlp`, the same in every head of a model."""

    key: str
    parent: nn.Module
    attribute: str

    @property
    def projection(self) -> Any:
        return getattr(self.parent, self.attribute)

    @property
    def width(self) -> int:
        return _width(self.projection)


def add(model: Any, config: Bottleneck, name: str = "default") -> Any:
    """Insert a new adapter into a transformers model, in place; it alone is trained and active from now on.

    All else is frozen, a classification head included. Raises AdapterError.
    """
    _insert(model, config, name)
    model.requires_grad_(False)
    for adapter in _adapters(model, name).values():
        adapter.requires_grad_(True)
    set_active(model, name)
    return model


def save(model: Any, directory: Path, name: str = "default", base: str | None = None) -> None:
    """Write an adapter's weights and configuration; `base` is the model's name if it is not the loaded path."""
    adapters = _adapters(model, name)
    saved = SavedAdapter(
        base=base or model.config.name_or_path,
        model_type=model.config.model_type,
        blocks=len(_blocks(model)),
        config=next(iter(adapters.values())).config,
    )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG_FILE).write_text(saved.model_dump_json(indent=1) + "\n")
    tensors = {
        f"{key}.{weight}": tensor.contiguous()
        for key, adapter in adapters.items()
        for weight, tensor in adapter.state_dict().items()
    }
    save_file(tensors, directory / WEIGHTS_FILE, metadata={"format": "pt"})


def load(model: Any, directory: Path, name: str = "default") -> Any:
    """Insert a saved adapter, in place, frozen; `set_active` switches it on. Raises AdapterError."""
    saved = read_config(directory)
    _check_base(model, saved, directory)
    try:
        tensors = load_file(directory / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{directory / WEIGHTS_FILE}: cannot be read ({first_line(error)})") from None
    _check_tensors(tensors, model, saved, directory)
    _insert(model, saved.config, name)
    set_weights(model, tensors, name)
    for adapter in _adapters(model, name).values():
        adapter.requires_grad_(False)
    return model


def set_weights(model: Any, tensors: Mapping[str, torch.Tensor], name: str = "default") -> None:
    """Put weights, named as `save` names them, into an adapter of the model."""
    for key, adapter in _adapters(model, name).items():
        prefix = f"{key}."
        adapter.load_state_dict(
            {k.removeprefix(prefix): value for k, value in tensors.items() if k.startswith(prefix)}
        )


def read_config(directory: Path) -> SavedAdapter:
    """Read the configuration of a saved adapter. Raises AdapterError."""
    path = directory / CONFIG_FILE
    try:
        return SavedAdapter.model_validate_json(path.read_bytes())
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read ({error.strerror}); give a saved adapter") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise AdapterError(f"{path}, key {where}: {first['msg']}") from None


def set_active(model: Any, name: str | None) -> None:
    """Use this adapter from now on; None is the base model itself. Raises AdapterError."""
    if name is not None:
        _adapters(model, name)
    for module in _adapted(model):
        module.active = name


def active(model: Any) -> str | None:
    """Return the name of the adapter in use."""
    return next((module.active for module in _adapted(model)), None)


def names(model: Any) -> list[str]:
    """Return the names of the adapters in the model."""
    return sorted({name for module in _adapted(model) for name in module.adapters})


@contextmanager
def disabled(model: Any) -> Iterator[None]:
    """Use the base model inside this context."""
    before = active(model)
    set_active(model, None)
    try:
        yield
    finally:
        set_active(model, before)


# ---- finding the places --------------------------------------------------------------------------


def _blocks(model: Any) -> nn.ModuleList:
    """Return the blocks of the text model. Raises AdapterError."""
    if model.config.is_encoder_decoder:
        raise AdapterError(
            f"bottleneck adapters: {type(model).__name__} is an encoder-decoder model; "
            "they can be added to decoders and encoders only, use lora"
        )
    count = model.config.get_text_config().num_hidden_layers
    body = getattr(model.base_model, "language_model", model.base_model)  # not the blocks of a vision tower
    for module in body.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise AdapterError(
        f"bottleneck adapters: no list of {count} blocks was found in {type(model).__name__}; use lora"
    )


def _sites(model: Any, config: Bottleneck) -> list[Site]:
    return [
        _site(block, place, number) for number, block in enumerate(_blocks(model)) for place in config.places
    ]


def _site(block: nn.Module, place: str, number: int) -> Site:
    for path in PROJECTIONS[place]:
        parent, _, attribute = path.rpartition(".")
        try:
            site = Site(f"{number}.{place}", block.get_submodule(parent), attribute)
            projection = block.get_submodule(path)
        except AttributeError:
            continue
        if _width(projection):
            return site
    what = "MLP" if place == "mlp" else place
    raise AdapterError(
        f"bottleneck adapters: block {number} ({type(block).__name__}) has no known output projection of its "
        f"{what}; looked for {', '.join(PROJECTIONS[place])}; use lora"
    )


def _width(projection: Any) -> int:
    """Return the size of a projection's output: torch and bitsandbytes layers, and GPT-2's Conv1D; 0 for others."""
    base = projection.base if isinstance(projection, Adapted) else projection
    return getattr(base, "out_features", None) or getattr(base, "nf", None) or 0


def _insert(model: Any, config: Bottleneck, name: str) -> None:
    sites = _sites(model, config)  # all are found before the first is touched
    if not re.fullmatch(r"[\w-]+", name) or hasattr(nn.ModuleDict(), name):
        raise AdapterError(
            f"adapter name {name!r}: use letters, digits, - and _, and no name that PyTorch's ModuleDict uses"
        )
    if name in names(model):
        raise AdapterError(f"adapter name {name!r}: the model has one of this name; choose another")
    for site in sites:
        if not isinstance(site.projection, Adapted):
            setattr(site.parent, site.attribute, Adapted(site.projection, site.key))
        adapted = site.projection
        adapter = Adapter(site.width, config).train(adapted.training)
        adapted.adapters[name] = adapter.to(next(adapted.base.parameters()).device)


def _adapted(model: Any) -> Iterator[Adapted]:
    return (module for module in model.modules() if isinstance(module, Adapted))


def _adapters(model: Any, name: str) -> dict[str, Adapter]:
    """Return the parts of an adapter by the key of their site. Raises AdapterError if there is none of that name."""
    parts = {m.key: cast(Adapter, m.adapters[name]) for m in _adapted(model) if name in m.adapters}
    if not parts:
        known = ", ".join(names(model)) or "none"
        raise AdapterError(f"no adapter named {name!r} in this model; there is: {known}")
    return parts


# ---- checking what was saved ---------------------------------------------------------------------


def _check_base(model: Any, saved: SavedAdapter, directory: Path) -> None:
    """Refuse a base of another shape. Whether its weights are the same cannot be seen from its shape."""
    ours = model.config.model_type, len(_blocks(model))
    theirs = saved.model_type, saved.blocks
    if ours != theirs:
        raise AdapterError(
            f"{directory}: the adapter belongs to {saved.base} ({theirs[0]}, {theirs[1]} blocks), "
            f"this model is {ours[0]} with {ours[1]} blocks; load it onto its own base"
        )


def _check_tensors(
    tensors: dict[str, torch.Tensor], model: Any, saved: SavedAdapter, directory: Path
) -> None:
    expected = {
        f"{site.key}.{name}": tensor.shape
        for site in _sites(model, saved.config)
        for name, tensor in Adapter(site.width, saved.config).state_dict().items()
    }
    if wrong := sorted(tensors.keys() ^ expected.keys()):
        raise AdapterError(
            f"{directory / WEIGHTS_FILE}: does not fit {CONFIG_FILE} beside it: {wrong[0]} is "
            f"{'unknown' if wrong[0] in tensors else 'missing'}; save the adapter again"
        )
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise AdapterError(
                f"{directory / WEIGHTS_FILE}: {name} is {list(tensors[name].shape)}, this model needs "
                f"{list(shape)}; the adapter belongs to {saved.base}"
            )

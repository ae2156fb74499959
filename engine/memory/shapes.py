"""The shapes of a model's weights and of what flows between its layers, read without loading it. Torch-free.

From the headers of the safetensors files where they are on this machine; else from config.json, for the
architectures that engine/memory/families.py knows.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from engine.basics.errors import ModelError
from engine.bundled import catalogue
from engine.memory.families import (
    EXPERTS_PER_TOKEN,
    FAMILIES,
    INNER,
    POSITIONS,
    POST_NORMS,
    PRESETS,
    Family,
    Reader,
    gpt2_weights,
    llama_weights,
)
from engine.memory.weights import Role, Weight, from_header, read_headers
from engine.models.outline import Outline
from engine.models.source import HUB_ID, read_config
from finetui.errors import first_line

_LAYER_NORM = re.compile(r"(norm|ln_?\w*)\.bias$")  # RMSNorm has none


@dataclass(frozen=True)
class ModelShapes:
    """A causal language model before it is loaded. Widths are in numbers per token."""

    source: str
    model_type: str
    layers: int
    hidden: int
    intermediate: int  # width inside the MLP; with experts, of all that one token passes through
    heads: int
    query_width: int  # heads * head size
    kv_width: int  # key/value heads * head size
    vocabulary: int
    tied: bool  # the head is the embedding
    weights: tuple[Weight, ...]  # tied ones once
    gated: bool = True  # MLP with a gate (SwiGLU, GeGLU); False: two matrices
    rms_norm: bool = True  # False: LayerNorm
    norms: int = 2  # of `hidden` numbers in a layer
    query_norm: Literal["", "head", "width"] = (
        ""  # queries and keys are normalised: each head, or all at once
    )
    fused_qkv: bool = False
    fused_gate: bool = False
    eager: bool = False  # transformers computes its attention with all scores in memory
    softcap: bool = False  # logits pass through tanh
    dropout: bool = False  # GPT-2 trains with dropout of its own, in the attention too
    max_positions: int | None = None
    experts_per_token: int = 0
    trained: tuple[Weight, ...] | None = None  # as a skeleton has them, low ranks at 1; None: by formula
    trained_by: tuple[Any, ...] = ()  # the settings of a method that train them: `Workload.trains`

    @property
    def parameters(self) -> int:
        return sum(weight.numel for weight in self.weights)

    def count(self, *roles: Role) -> int:
        """Return how many numbers the weights of these roles have."""
        return sum(weight.numel for weight in self.weights if weight.role in roles)

    @property
    def linears(self) -> list[Weight]:
        """The matrices of linear layers without the head: what adapters and 4-bit weights apply to."""
        return [weight for weight in self.weights if weight.role == "linear"]


def model_shapes(source: str) -> ModelShapes:
    """Return the shapes of a preset ("7B"), a bundled model, a directory or a hub id. Raises ModelError.

    Of a hub model that is not in the cache, config.json (a few hundred bytes) is downloaded.
    """
    if source in PRESETS:
        return from_config(PRESETS[source], source)
    directory = _directory(source)
    config = read_config(directory / "config.json", source)
    return from_config(config, source, read_headers(directory, source))


def from_config(
    config: dict[str, Any], source: str, header: dict[str, list[int]] | None = None
) -> ModelShapes:
    """Return the shapes by the contents of config.json; weights from `header` (name to shape) if there is one.

    Raises ModelError for an architecture that is not known, unless there is a header.
    """
    outer, text = config, config.get("text_config") or config
    read = Reader(text, source)
    kind = str(text.get("model_type") or outer.get("model_type") or "")
    if kind == "gpt2":
        return _gpt2(read, header)
    family = FAMILIES.get(kind)
    if header is None and (family is None or text is not outer):
        known = ", ".join([*FAMILIES, "gpt2"])
        raise ModelError(
            f"model {source}: the weight shapes of architecture {outer.get('model_type') or kind or '?'} "
            f"cannot be derived from config.json alone (known: {known}); download the model, then try again"
        )
    tied = bool(text.get("tie_word_embeddings", outer.get("tie_word_embeddings", (family or Family()).tied)))
    if header is not None:
        weights = from_header(header, tied)
    else:
        assert family is not None
        weights = tuple(llama_weights(read, family, tied))
    return _decoder(read, family, weights, tied, source)


def from_outline(outline: Outline, source: str) -> ModelShapes:
    """Return the shapes by a skeleton. Raises ModelError for a model without attention."""
    assert outline.config is not None
    weights = tuple(Weight(name, shape, cast(Role, role)) for name, shape, role in outline.weights)
    tied = not any(weight.role == "head" for weight in weights)
    family = FAMILIES.get(str(outline.config.get("model_type")))
    return _decoder(Reader(outline.config, source), family, weights, tied, source)


def _decoder(
    read: Reader, family: Family | None, weights: tuple[Weight, ...], tied: bool, source: str
) -> ModelShapes:
    hidden = read.hidden
    # A header shows the structure of an unknown family: the modules of a layer by their last names.
    layer_modules = {
        weight.module.rpartition(".")[2] for weight in weights if re.search(r"\.\d+\.", weight.name)
    }
    experts_per_token = read.number(*EXPERTS_PER_TOKEN, default=2) if read.experts else 0
    width = read.number(*INNER, default=4 * hidden)
    if read.experts:
        shared = read.number("n_shared_experts", default=0) * read.expert_width
        shared = read.number("shared_expert_intermediate_size", "shared_intermediate_size", default=shared)
        width = experts_per_token * read.expert_width + shared
    norms = Counter(
        w.name for w in weights if w.shape == (hidden,) and re.search(r"\.0\..*norm.*weight|\.0\.ln", w.name)
    )
    return ModelShapes(
        source=source,
        model_type=str(read.config.get("model_type", "?")),
        layers=read.layers,
        hidden=hidden,
        intermediate=width,
        heads=read.heads,
        query_width=read.heads * read.head_size,
        kv_width=read.kv_heads * read.head_size,
        vocabulary=read.number("vocab_size"),
        tied=tied,
        weights=weights,
        gated=bool(layer_modules & {"gate_proj", "gate_up_proj", "w1"}) or bool(read.experts),
        norms=len(family.norms or POST_NORMS) if family else len(norms),  # OLMo's have no weights
        query_norm=family.query_norm
        if family
        else ("head" if layer_modules & {"q_norm", "query_layernorm"} else ""),
        fused_qkv="qkv_proj" in layer_modules or "query_key_value" in layer_modules,
        fused_gate="gate_up_proj" in layer_modules and not read.experts,
        eager=bool(family and family.eager),
        softcap=read.config.get("final_logit_softcapping") is not None,
        rms_norm=family is not None or not any(_LAYER_NORM.search(weight.name) for weight in weights),
        max_positions=read.number(*POSITIONS, default=0) or None,
        experts_per_token=experts_per_token,
    )


def _gpt2(read: Reader, header: dict[str, list[int]] | None) -> ModelShapes:
    hidden = read.number("n_embd", "hidden_size")
    inner = read.number("n_inner", default=4 * hidden)
    vocabulary, positions = read.number("vocab_size"), read.number("n_positions", default=1024)
    rates = [read.config.get(name, 0.1) for name in ("attn_pdrop", "resid_pdrop", "embd_pdrop")]
    weights = from_header(header, True) if header else tuple(gpt2_weights(read, hidden, inner, positions))
    return ModelShapes(
        source=read.source,
        model_type="gpt2",
        layers=read.layers,
        hidden=hidden,
        intermediate=inner,
        heads=read.heads,
        query_width=hidden,
        kv_width=hidden,
        vocabulary=vocabulary,
        tied=True,
        weights=weights,
        gated=False,
        rms_norm=False,
        fused_qkv=True,
        dropout=any(rates),
        max_positions=positions,
    )


def _directory(source: str) -> Path:
    """Return the directory of config.json. Raises ModelError."""
    if source.startswith("bundled:"):
        try:
            return catalogue.model_path(source.removeprefix("bundled:"))
        except ValueError as error:
            raise ModelError(f"model {source}: {error}") from None
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if source.startswith((".", "/", "~")) or path.exists() or not HUB_ID.fullmatch(source):
        raise ModelError(
            f"model {source}: there is no such directory; give one with a config.json, a hub id, "
            f"bundled:NAME or one of {', '.join(PRESETS)}"
        )
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(source, "config.json")
    try:
        config_path = (
            cached if isinstance(cached, str) else hf_hub_download(source, "config.json", etag_timeout=5)
        )
    except Exception as error:  # the hub's client raises many kinds
        raise ModelError(
            f"model {source}: its config.json is not in the cache and cannot be fetched ({first_line(error)}); "
            "check the name or give a directory"
        ) from None
    return Path(config_path).parent

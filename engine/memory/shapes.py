"""The shapes of a model's weights and of what flows between its layers, read without loading it. Torch-free.

From the headers of the safetensors files where they are on this machine; else from config.json, for the
architectures in `FAMILIES` and GPT-2. `PRESETS` are the Llama 2 configurations that memory tables are about.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple

from engine.data import bundled
from engine.model_source import HUB_ID, ModelError, read_config, tensor_shapes

# expert: many matrices in one tensor; neither adapters nor 4-bit layers know it.
Role = Literal["embedding", "head", "linear", "expert", "vector"]


class Weight(NamedTuple):
    """One weight of the model. `name` ends in `.weight` or `.bias` where transformers' own does."""

    name: str
    shape: tuple[int, ...]
    role: Role

    @property
    def numel(self) -> int:
        return prod(self.shape)

    @property
    def module(self) -> str:
        """The name of the layer that holds it, such as `model.layers.0.self_attn.q_proj`."""
        return self.name.rpartition(".")[0]


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

    @property
    def parameters(self) -> int:
        return sum(weight.numel for weight in self.weights)

    def count(self, *roles: Role) -> int:
        """Numbers in the weights of these roles."""
        return sum(weight.numel for weight in self.weights if weight.role in roles)

    @property
    def linears(self) -> list[Weight]:
        """The matrices of linear layers without the head: what adapters and 4-bit weights apply to."""
        return [weight for weight in self.weights if weight.role == "linear"]


@dataclass(frozen=True)
class Family:
    """How an architecture differs from Llama, in the names of transformers' modules."""

    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    query_norm: Literal["", "head", "width"] = ""
    qkv_bias: bool = False
    fused: bool = False
    final_norm: bool = True
    tied: bool = False  # if config.json does not say
    eager: bool = False


_FOUR_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
_POST_NORMS = ("post_attention_layernorm", "post_feedforward_layernorm")
FAMILIES = {
    "llama": Family(),
    "mistral": Family(),
    "ministral": Family(),
    "mixtral": Family(),
    "granite": Family(),
    "smollm3": Family(tied=True),
    "qwen2": Family(qkv_bias=True),
    "qwen2_moe": Family(qkv_bias=True),
    "qwen3": Family(query_norm="head"),
    "qwen3_moe": Family(query_norm="head"),
    "gemma": Family(tied=True),
    "gemma2": Family(_FOUR_NORMS, tied=True, eager=True),
    "gemma3_text": Family(_FOUR_NORMS, "head", tied=True),
    "phi3": Family(fused=True),
    "olmo": Family((), final_norm=False),
    "olmo2": Family(_POST_NORMS, "width"),
    "olmo3": Family(_POST_NORMS, "width"),
}


def _llama_2(hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    }


# Touvron et al. 2023 (arXiv 2307.09288) and the config.json files of Llama 2.
PRESETS = {
    "7B": _llama_2(4096, 11008, 32, 32, 32),
    "13B": _llama_2(5120, 13824, 40, 40, 40),
    "70B": _llama_2(8192, 28672, 80, 64, 8),
}


def model_shapes(source: str) -> ModelShapes:
    """Shapes of a preset ("7B"), a bundled model, a directory or a hub id. Raises ModelError.

    Of a hub model that is not in the cache, config.json (a few hundred bytes) is downloaded.
    """
    if source in PRESETS:
        return from_config(PRESETS[source], source)
    directory = _directory(source)
    config = read_config(directory / "config.json", source)
    return from_config(config, source, _headers(directory, source))


def from_config(
    config: dict[str, Any], source: str, header: dict[str, list[int]] | None = None
) -> ModelShapes:
    """Shapes by the contents of config.json; weights from `header` (name to shape) where given.

    Raises ModelError for an architecture that is not known, unless there is a header.
    """
    outer, text = config, config.get("text_config") or config
    read = _Reader(text, source)
    kind = str(text.get("model_type") or outer.get("model_type") or "")
    if kind == "gpt2":
        return _gpt2(read, header)
    family = FAMILIES.get(kind)
    if header is None and (family is None or text is not outer):
        known = ", ".join([*FAMILIES, "gpt2"])
        raise ModelError(
            f"model {source}: the weight shapes of architecture {outer.get('model_type') or kind or '?'} "
            f"cannot be told from config.json alone (known: {known}); download the model, then try again"
        )
    tied = bool(text.get("tie_word_embeddings", outer.get("tie_word_embeddings", (family or Family()).tied)))
    if header is not None:
        weights = _from_header(header, tied)
    else:
        assert family is not None
        weights = tuple(_llama_weights(read, family, tied))
    return _decoder(read, family, weights, tied, source)


class _Reader:
    """Looks numbers up in config.json under the names that architectures use."""

    def __init__(self, config: dict[str, Any], source: str) -> None:
        self.config, self.source = config, source

    def number(self, *names: str, default: int | None = None) -> int:
        for name in names:
            if isinstance(self.config.get(name), int):
                return int(self.config[name])
        if default is None:
            raise ModelError(
                f"model {self.source}: its config.json has no {names[0]}; is it a language model?"
            )
        return default

    def flag(self, name: str) -> bool:
        return bool(self.config.get(name))

    @property
    def heads(self) -> int:
        return self.number("num_attention_heads", "n_head")

    @property
    def kv_heads(self) -> int:
        return self.number("num_key_value_heads", default=self.heads)

    @property
    def head_size(self) -> int:
        return self.number("head_dim", default=self.number("hidden_size", "n_embd") // self.heads)

    @property
    def layers(self) -> int:
        return self.number("num_hidden_layers", "n_layer")

    @property
    def experts(self) -> int:
        return self.number("num_local_experts", "num_experts", "n_routed_experts", default=0)

    @property
    def expert_width(self) -> int:
        return self.number("moe_intermediate_size", "intermediate_size")

    def sparse(self, layer: int) -> bool:
        """Whether the layer's MLP is made of experts."""
        step = self.number("decoder_sparse_step", default=1)
        return (
            bool(self.experts)
            and layer not in (self.config.get("mlp_only_layers") or [])
            and (step > 0 and (layer + 1) % step == 0)
        )


def _decoder(
    read: _Reader, family: Family | None, weights: tuple[Weight, ...], tied: bool, source: str
) -> ModelShapes:
    hidden = read.number("hidden_size", "n_embd")
    # A header tells what an unknown family looks like: the modules of a layer by their last names.
    inside = {weight.module.rpartition(".")[2] for weight in weights if re.search(r"\.\d+\.", weight.name)}
    per_token = read.number("num_experts_per_tok", "top_k", default=2) if read.experts else 0
    width = read.number("intermediate_size", "n_inner", "ffn_dim", default=4 * hidden)
    if read.experts:
        width = per_token * read.expert_width + read.number("shared_expert_intermediate_size", default=0)
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
        gated=bool(inside & {"gate_proj", "gate_up_proj", "w1"}) or bool(read.experts),
        norms=len(family.norms or _POST_NORMS) if family else len(norms),  # OLMo's have no weights
        query_norm=family.query_norm
        if family
        else ("head" if inside & {"q_norm", "query_layernorm"} else ""),
        fused_qkv="qkv_proj" in inside or "query_key_value" in inside,
        fused_gate="gate_up_proj" in inside and not read.experts,
        eager=bool(family and family.eager),
        softcap=read.config.get("final_logit_softcapping") is not None,
        max_positions=read.number("max_position_embeddings", "n_positions", default=0) or None,
        experts_per_token=per_token,
    )


def _llama_weights(read: _Reader, family: Family, tied: bool) -> Iterator[Weight]:
    """Names and shapes as transformers builds them; matrices are [out, in]."""
    hidden, vocabulary = read.number("hidden_size"), read.number("vocab_size")
    yield Weight("model.embed_tokens.weight", (vocabulary, hidden), "embedding")
    for layer in range(read.layers):
        place = f"model.layers.{layer}"
        yield from _attention(read, family, f"{place}.self_attn", hidden)
        if read.sparse(layer):
            yield from _experts(read, f"{place}.mlp", hidden)
        else:
            width = read.number("intermediate_size")
            yield from _mlp(f"{place}.mlp", hidden, width, family.fused, read.flag("mlp_bias"))
        for norm in family.norms:
            yield Weight(f"{place}.{norm}.weight", (hidden,), "vector")
    if family.final_norm:
        yield Weight("model.norm.weight", (hidden,), "vector")
    if not tied:
        yield Weight("lm_head.weight", (vocabulary, hidden), "head")


def _attention(read: _Reader, family: Family, place: str, hidden: int) -> Iterator[Weight]:
    query, kv = read.heads * read.head_size, read.kv_heads * read.head_size
    projections = {"q_proj": query, "k_proj": kv, "v_proj": kv}
    if family.fused:
        projections = {"qkv_proj": query + 2 * kv}
    every_bias = read.flag("attention_bias")
    for name, width in projections.items():
        yield Weight(f"{place}.{name}.weight", (width, hidden), "linear")
        if family.qkv_bias or every_bias:
            yield Weight(f"{place}.{name}.bias", (width,), "vector")
    yield Weight(f"{place}.o_proj.weight", (hidden, query), "linear")
    if every_bias:
        yield Weight(f"{place}.o_proj.bias", (hidden,), "vector")
    if family.query_norm:
        by_head = family.query_norm == "head"
        yield Weight(f"{place}.q_norm.weight", (read.head_size if by_head else query,), "vector")
        yield Weight(f"{place}.k_norm.weight", (read.head_size if by_head else kv,), "vector")


def _mlp(place: str, hidden: int, width: int, fused: bool, bias: bool) -> Iterator[Weight]:
    into = {"gate_up_proj": 2 * width} if fused else {"gate_proj": width, "up_proj": width}
    for name, out in into.items():
        yield Weight(f"{place}.{name}.weight", (out, hidden), "linear")
        if bias:
            yield Weight(f"{place}.{name}.bias", (out,), "vector")
    yield Weight(f"{place}.down_proj.weight", (hidden, width), "linear")
    if bias:
        yield Weight(f"{place}.down_proj.bias", (hidden,), "vector")


def _experts(read: _Reader, place: str, hidden: int) -> Iterator[Weight]:
    count, width = read.experts, read.expert_width
    yield Weight(f"{place}.gate.weight", (count, hidden), "expert")
    yield Weight(f"{place}.experts.gate_up_proj", (count, 2 * width, hidden), "expert")
    yield Weight(f"{place}.experts.down_proj", (count, hidden, width), "expert")
    shared = read.number("shared_expert_intermediate_size", default=0)
    if shared:
        yield from _mlp(f"{place}.shared_expert", hidden, shared, False, False)
        yield Weight(f"{place}.shared_expert_gate.weight", (1, hidden), "linear")


def _gpt2(read: _Reader, header: dict[str, list[int]] | None) -> ModelShapes:
    hidden = read.number("n_embd", "hidden_size")
    inner = read.number("n_inner", default=4 * hidden)
    vocabulary, positions = read.number("vocab_size"), read.number("n_positions", default=1024)
    rates = [read.config.get(name, 0.1) for name in ("attn_pdrop", "resid_pdrop", "embd_pdrop")]
    weights = _from_header(header, True) if header else tuple(_gpt2_weights(read, hidden, inner, positions))
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


def _gpt2_weights(read: _Reader, hidden: int, inner: int, positions: int) -> Iterator[Weight]:
    """GPT-2's linear layers are Conv1D: matrices are [in, out]."""
    yield Weight("transformer.wte.weight", (read.number("vocab_size"), hidden), "embedding")
    yield Weight("transformer.wpe.weight", (positions, hidden), "embedding")
    matrices = {
        "attn.c_attn": (hidden, 3 * hidden),
        "attn.c_proj": (hidden, hidden),
        "mlp.c_fc": (hidden, inner),
        "mlp.c_proj": (inner, hidden),
    }
    for place in [f"transformer.h.{layer}" for layer in range(read.layers)]:
        for name, shape in matrices.items():
            yield Weight(f"{place}.{name}.weight", shape, "linear")
            yield Weight(f"{place}.{name}.bias", shape[1:], "vector")
        for norm in ("ln_1", "ln_2"):
            yield Weight(f"{place}.{norm}.weight", (hidden,), "vector")
            yield Weight(f"{place}.{norm}.bias", (hidden,), "vector")
    yield Weight("transformer.ln_f.weight", (hidden,), "vector")
    yield Weight("transformer.ln_f.bias", (hidden,), "vector")


# ---- files ---------------------------------------------------------------------------------------

_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|wpe|embed_in|word_embeddings|tok_embeddings)\.weight$")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output)\.weight$")
_BUFFER = re.compile(r"(rotary_emb\.inv_freq|attn\.(masked_)?bias)$")


def _from_header(header: dict[str, list[int]], tied: bool) -> tuple[Weight, ...]:
    weights = (Weight(name, tuple(shape), _role(name, shape)) for name, shape in header.items())
    return tuple(
        weight
        for weight in weights
        if not _BUFFER.search(weight.name) and not (tied and weight.role == "head")
    )


def _role(name: str, shape: list[int]) -> Role:
    if _EMBEDDING.search(name):
        return "embedding"
    if _HEAD.search(name):
        return "head"
    if ".experts." in name or len(shape) > 2:
        return "expert"  # one matrix each in the file, one tensor in transformers
    return "linear" if len(shape) == 2 else "vector"


def _headers(directory: Path, source: str) -> dict[str, list[int]] | None:
    """Names and shapes of all weights, or None if not all files are there."""
    index = directory / "model.safetensors.index.json"
    files = sorted(directory.glob("*.safetensors"))
    if index.exists():
        try:
            needed = set(json.loads(index.read_text())["weight_map"].values())
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"model {source}: {index} cannot be read ({error}); download it again") from None
        if not needed <= {file.name for file in files}:
            return None
        files = [file for file in files if file.name in needed]
    shapes: dict[str, list[int]] = {}
    for file in files:
        shapes |= tensor_shapes(file, source)
    return shapes or None


def _directory(source: str) -> Path:
    """Where config.json is. Raises ModelError."""
    if source.startswith("bundled:"):
        try:
            return bundled.model_path(source.removeprefix("bundled:"))
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
        found = cached if isinstance(cached, str) else hf_hub_download(source, "config.json", etag_timeout=5)
    except Exception as error:  # the hub's client raises many kinds
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"model {source}: its config.json is not in the cache and cannot be fetched ({why}); "
            "check the name or give a directory"
        ) from None
    return Path(found).parent

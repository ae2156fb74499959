"""The weights of known architectures, from config.json alone, by the names that transformers gives them.

`PRESETS` are the Llama 2 configurations that memory tables are about. Torch-free.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from engine.basics.errors import ModelError
from engine.memory.weights import Weight


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
POST_NORMS = ("post_attention_layernorm", "post_feedforward_layernorm")
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
    "olmo2": Family(POST_NORMS, "width"),
    "olmo3": Family(POST_NORMS, "width"),
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


# What architectures call the same sizes.
HIDDEN = ("hidden_size", "n_embd", "n_embed", "d_model", "embed_dim", "dim")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
INNER = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff", "inner_dim", "decoder_ffn_dim")
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "seq_length")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
EXPERT_WIDTH = ("moe_intermediate_size", "expert_ffn_hidden_size", *INNER)
EXPERTS_PER_TOKEN = ("num_experts_per_tok", "top_k", "moe_topk", "moe_top_k", "moe_k")


class Reader:
    """Reader of config.json: looks numbers up under the names that architectures use."""

    def __init__(self, config: dict[str, Any], source: str) -> None:
        self.config, self.source = config, source

    def number(self, *names: str, default: int | None = None) -> int:
        for name in names:
            if isinstance(self.config.get(name), int):
                return int(self.config[name])
        if default is None:
            raise ModelError(
                f"model {self.source}: its config.json has none of {', '.join(names)}: its memory is not known"
            )
        return default

    def flag(self, name: str) -> bool:
        return bool(self.config.get(name))

    @property
    def hidden(self) -> int:
        return self.number(*HIDDEN)

    @property
    def heads(self) -> int:
        return self.number(*HEADS)

    @property
    def kv_heads(self) -> int:
        return self.number(*KV_HEADS, default=self.heads)

    @property
    def head_size(self) -> int:
        return self.number("head_dim", default=self.hidden // self.heads)

    @property
    def layers(self) -> int:
        return self.number(*LAYERS)

    @property
    def experts(self) -> int:
        return self.number(*EXPERTS, default=0)

    @property
    def expert_width(self) -> int:
        return self.number(*EXPERT_WIDTH)

    def sparse(self, layer: int) -> bool:
        """Whether the layer's MLP is made of experts."""
        step = self.number("decoder_sparse_step", default=1)
        return (
            bool(self.experts)
            and layer not in (self.config.get("mlp_only_layers") or [])
            and (step > 0 and (layer + 1) % step == 0)
        )


def llama_weights(read: Reader, family: Family, tied: bool) -> Iterator[Weight]:
    """Yield names and shapes as transformers builds them; matrices are [out, in]."""
    hidden, vocabulary = read.number("hidden_size"), read.number("vocab_size")
    yield Weight("model.embed_tokens.weight", (vocabulary, hidden), "embedding")
    for layer in range(read.layers):
        prefix = f"model.layers.{layer}"
        yield from _attention(read, family, f"{prefix}.self_attn", hidden)
        if read.sparse(layer):
            yield from _experts(read, f"{prefix}.mlp", hidden)
        else:
            width = read.number("intermediate_size")
            yield from _mlp(f"{prefix}.mlp", hidden, width, family.fused, read.flag("mlp_bias"))
        for norm in family.norms:
            yield Weight(f"{prefix}.{norm}.weight", (hidden,), "vector")
    if family.final_norm:
        yield Weight("model.norm.weight", (hidden,), "vector")
    if not tied:
        yield Weight("lm_head.weight", (vocabulary, hidden), "head")


def _attention(read: Reader, family: Family, prefix: str, hidden: int) -> Iterator[Weight]:
    query, kv = read.heads * read.head_size, read.kv_heads * read.head_size
    projections = {"q_proj": query, "k_proj": kv, "v_proj": kv}
    if family.fused:
        projections = {"qkv_proj": query + 2 * kv}
    every_bias = read.flag("attention_bias")
    for name, width in projections.items():
        yield Weight(f"{prefix}.{name}.weight", (width, hidden), "linear")
        if family.qkv_bias or every_bias:
            yield Weight(f"{prefix}.{name}.bias", (width,), "vector")
    yield Weight(f"{prefix}.o_proj.weight", (hidden, query), "linear")
    if every_bias:
        yield Weight(f"{prefix}.o_proj.bias", (hidden,), "vector")
    if family.query_norm:
        by_head = family.query_norm == "head"
        yield Weight(f"{prefix}.q_norm.weight", (read.head_size if by_head else query,), "vector")
        yield Weight(f"{prefix}.k_norm.weight", (read.head_size if by_head else kv,), "vector")


def _mlp(prefix: str, hidden: int, width: int, fused: bool, bias: bool) -> Iterator[Weight]:
    projections = {"gate_up_proj": 2 * width} if fused else {"gate_proj": width, "up_proj": width}
    for name, out in projections.items():
        yield Weight(f"{prefix}.{name}.weight", (out, hidden), "linear")
        if bias:
            yield Weight(f"{prefix}.{name}.bias", (out,), "vector")
    yield Weight(f"{prefix}.down_proj.weight", (hidden, width), "linear")
    if bias:
        yield Weight(f"{prefix}.down_proj.bias", (hidden,), "vector")


def _experts(read: Reader, prefix: str, hidden: int) -> Iterator[Weight]:
    count, width = read.experts, read.expert_width
    yield Weight(f"{prefix}.gate.weight", (count, hidden), "expert")
    yield Weight(f"{prefix}.experts.gate_up_proj", (count, 2 * width, hidden), "expert")
    yield Weight(f"{prefix}.experts.down_proj", (count, hidden, width), "expert")
    shared = read.number("shared_expert_intermediate_size", default=0)
    if shared:
        yield from _mlp(f"{prefix}.shared_expert", hidden, shared, False, False)
        yield Weight(f"{prefix}.shared_expert_gate.weight", (1, hidden), "linear")


def gpt2_weights(read: Reader, hidden: int, inner: int, positions: int) -> Iterator[Weight]:
    """Yield the names and shapes of GPT-2, whose linear layers are Conv1D: matrices are [in, out]."""
    yield Weight("transformer.wte.weight", (read.number("vocab_size"), hidden), "embedding")
    yield Weight("transformer.wpe.weight", (positions, hidden), "embedding")
    matrices = {
        "attn.c_attn": (hidden, 3 * hidden),
        "attn.c_proj": (hidden, hidden),
        "mlp.c_fc": (hidden, inner),
        "mlp.c_proj": (inner, hidden),
    }
    for prefix in [f"transformer.h.{layer}" for layer in range(read.layers)]:
        for name, shape in matrices.items():
            yield Weight(f"{prefix}.{name}.weight", shape, "linear")
            yield Weight(f"{prefix}.{name}.bias", shape[1:], "vector")
        for norm in ("ln_1", "ln_2"):
            yield Weight(f"{prefix}.{norm}.weight", (hidden,), "vector")
            yield Weight(f"{prefix}.{norm}.bias", (hidden,), "vector")
    yield Weight("transformer.ln_f.weight", (hidden,), "vector")
    yield Weight("transformer.ln_f.bias", (hidden,), "vector")

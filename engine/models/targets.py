"""Which layers `method.targets` means, by their paths. Torch-free."""

from __future__ import annotations

import re

# Parts of paths, as transformers' architectures name what belongs to the MLP of a block.
_MLP = re.compile(
    r"(^|\.)(\w*mlp\w*|\w*ffn\w*|ff|\w*feed_?forward\w*|\w*moe\w*|\w*experts?|intermediate|output|"
    r"fc1|fc2|fc_in|fc_out|dense_h_to_4h|dense_4h_to_h)(\.|$)"
)
_ATTENTION = re.compile(r"attn|attention")
# They choose among experts, and no text passes through them.
_ROUTER = re.compile(r"(^|\.)(gate|\w*router\w*|\w*expert_gate)(\.|$)")


def in_mlp(path: str) -> bool:
    """Whether a layer belongs to the MLP of its block: `model.layers.0.mlp.up_proj`, `h.0.mlp.c_proj`, `fc1`."""
    inside = re.split(r"\.\d+\.", path, maxsplit=1)[-1]
    parent = inside.rpartition(".")[0]
    if _ATTENTION.search(parent) or _ROUTER.search(inside):
        return False
    return bool(_MLP.search(inside))


def is_target(path: str, targets: str | list[str] | tuple[str, ...]) -> bool:
    """Whether a linear layer is meant: all are, those of MLPs, or it is named by the last parts of its path."""
    if isinstance(targets, str):
        return targets == "all-linear" or in_mlp(path)
    return any(path == target or path.endswith(f".{target}") for target in targets)

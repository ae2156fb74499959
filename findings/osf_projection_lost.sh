#!/usr/bin/env bash
# Library:  peft 0.21.2, transformers 5.23.0, torch 2.13.0
# Expected: OSF keeps each layer's largest singular directions: gradients of the trained ones are projected to be
#           orthogonal to them, so that training does not touch what they hold.
# Really:   on a base in bfloat16 nothing is projected. PEFT hangs the projection on the weights as hooks, then
#           replaces them by copies in float32 (autocast_adapter_dtype, the default), which have none. And where it is
#           projected, AdamW's steps leave the subspace all the same: it divides each number by its own history.
# Seen on 29 November 2026 (share of the norm that lies in the directions that are kept):
#   base in torch.float32   gradient 0.000  first step of AdamW 0.312
#   base in torch.bfloat16  gradient 0.525  first step of AdamW 0.518
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 transformers==5.23.0 peft==0.21.2
cd "$work"
export HF_HOME="$work" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error

venv/bin/python -I -W ignore - <<'EOF'
import sys

import torch
from peft import OSFConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

config = LlamaConfig(
    vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, pad_token_id=0,
)
torch.manual_seed(0)
text = torch.randint(1, 64, (4, 32))
base = LlamaForCausalLM(config)
layer = "model.layers.1.mlp.up_proj"
kept = torch.linalg.svd(base.get_submodule(layer).weight.detach(), full_matrices=False).U[:, :32]


def share(change):
    """Of the norm of a change of U [out, directions], what lies in the directions that are kept."""
    return (kept.T @ change.float()).norm().item() / change.float().norm().item()


found = {}
for dtype in (torch.float32, torch.bfloat16):
    torch.manual_seed(0)
    copy = LlamaForCausalLM(config)
    copy.load_state_dict(base.state_dict())
    model = get_peft_model(copy.to(dtype), OSFConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        model(input_ids=text, labels=text).loss.backward()
    u = model.get_submodule(f"base_model.model.{layer}").osf_svd_params["default"]["U_low"]
    gradient, before = share(u.grad), u.detach().clone()
    torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=0).step()
    found[dtype] = gradient, share(u.detach() - before)
    print(f"base in {str(dtype):15} gradient {gradient:.3f}  first step of AdamW {found[dtype][1]:.3f}")
if found[torch.float32][0] > 0.01 or found[torch.float32][1] < 0.1 or found[torch.bfloat16][0] < 0.1:
    sys.exit("CHANGED: OSF no longer projects as described.")
EOF

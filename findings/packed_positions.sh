#!/usr/bin/env bash
# Library:  transformers 5.23.0, torch 2.13.0 (attention: sdpa, the default)
# Expected: two examples in one row, with position_ids that begin again at the second, do not see each other: this is
#           how packed rows are given to a model. If a model cannot do it, it says so.
# Really:   Llama keeps them apart only with use_cache=False and without an attention mask, even one of all ones. OPT
#           takes the positions and never keeps the examples apart. Nothing is said in either case.
# Seen on 28 November 2026 (largest difference of the second example's logits from those it has alone):
#   LlamaForCausalLM  use_cache=False                     0.000000
#   LlamaForCausalLM  use_cache=False and a mask of ones  0.373840
#   LlamaForCausalLM  neither                             0.373840
#   OPTForCausalLM    use_cache=False                     0.237062
#   OPTForCausalLM    use_cache=False and a mask of ones  0.237062
#   OPTForCausalLM    neither                             0.237062
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 transformers==5.23.0
cd "$work"
export HF_HOME="$work" HF_HUB_OFFLINE=1

venv/bin/python -I - <<'EOF'
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

torch.manual_seed(0)
sizes = dict(vocab_size=64, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, pad_token_id=0)
models = (
    LlamaForCausalLM(LlamaConfig(intermediate_size=128, num_key_value_heads=2, **sizes)).eval(),
    OPTForCausalLM(OPTConfig(ffn_dim=128, word_embed_proj_dim=64, max_position_embeddings=64, **sizes)).eval(),
)
first, second = torch.randint(1, 64, (2, 1, 10))
row = torch.cat([first, second], 1)
positions = torch.cat([torch.arange(10), torch.arange(10)])[None]
ways = {
    "use_cache=False": {"use_cache": False},
    "use_cache=False and a mask of ones": {"use_cache": False, "attention_mask": torch.ones_like(row)},
    "neither": {},
}
apart = []
for model in models:
    for way, arguments in ways.items():
        with torch.no_grad():
            alone = model(second).logits
            packed = model(row, position_ids=positions, **arguments).logits[:, 10:]
        difference = (packed - alone).abs().max().item()
        apart.append(difference < 1e-4)
        print(f"{type(model).__name__:17} {way:35} {difference:.6f}")
if apart != [True, False, False, False, False, False]:
    sys.exit("CHANGED: packed examples are kept apart in other cases than described.")
EOF

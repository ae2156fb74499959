#!/usr/bin/env bash
# Library:  peft 0.21.2, transformers 5.23.0, torch 2.13.0
# Expected: merging LoRA into a model leaves what it computes as it is, also where the head is the embedding
#           (tie_word_embeddings=True); if not, the remedy that PEFT's warning names, ensure_weight_tying=True, helps.
# Really:   merging adds the head's difference to the input embedding too, and the merged model is another one. With
#           ensure_weight_tying=True head and embedding share one adapter, and merging adds its difference twice.
# Seen on 28 November 2026:
#   ensure_weight_tying=False  input embedding moved by 1.000 times the adapter's difference, logits by up to 3.36
#   ensure_weight_tying=True   input embedding moved by 2.000 times the adapter's difference, logits by up to 4.46
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
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

config = LlamaConfig(
    vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, pad_token_id=0, tie_word_embeddings=True,
)
for remedy, times in ((False, 1), (True, 2)):
    torch.manual_seed(0)
    text = torch.randint(1, 64, (4, 32))
    lora = LoraConfig(r=8, lora_alpha=8, target_modules=["lm_head"], task_type="CAUSAL_LM", ensure_weight_tying=remedy)
    model = get_peft_model(LlamaForCausalLM(config), lora)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(10):
        model(input_ids=text, labels=text).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = model.eval()(text).logits.detach()
    difference = model.base_model.model.lm_head.get_delta_weight("default").detach()
    old = model.get_input_embeddings().weight.detach().clone()
    merged = model.merge_and_unload()
    added = merged.get_input_embeddings().weight.detach() - old
    error = (merged(text).logits - trained).abs().max().item()
    ratio = (added.norm() / difference.norm()).item()
    print(
        f"ensure_weight_tying={remedy!s:5}  input embedding moved by {ratio:.3f} times the adapter's difference, "
        f"logits by up to {error:.2f}"
    )
    if error < 0.5 or (added - times * difference).abs().max() > 1e-4:
        sys.exit("CHANGED: merging LoRA on a tied head no longer changes the input embedding as described.")
EOF

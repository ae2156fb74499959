#!/usr/bin/env bash
# Library:  peft 0.21.2, transformers 5.23.0, torch 2.13.0
# Expected: an adapter that is saved and read again onto the same base gives the trained model.
# Really:   with init_lora_weights="pissa_niter_4" only if the random seed is the same at both times. PiSSA changes
#           the base too, by a factorisation that the file does not hold; the fast variant draws random numbers for
#           it, at reading again. The error is larger than what training did. Exact "pissa" is fine.
# Seen on 28 November 2026 (largest difference of the logits):
#   pissa          training 0.045  read again: same seed 0.000, another seed 0.000
#   pissa_niter_4  training 0.044  read again: same seed 0.000, another seed 0.351
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
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

logging.disable_progress_bar()
config = LlamaConfig(
    vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, pad_token_id=0,
)
torch.manual_seed(0)
LlamaForCausalLM(config).save_pretrained("base")
text = torch.randint(1, 64, (4, 32))


def base():
    return LlamaForCausalLM.from_pretrained("base")


def largest(difference):
    return difference.abs().max().item()


for init in ("pissa", "pissa_niter_4"):
    torch.manual_seed(0)
    lora = LoraConfig(r=8, lora_alpha=8, init_lora_weights=init, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base(), lora)
    before = model(text).logits.detach()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    for _ in range(10):
        model(input_ids=text, labels=text).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = model.eval()(text).logits.detach()
    model.save_pretrained("adapter")
    error = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        error.append(largest(PeftModel.from_pretrained(base(), "adapter").eval()(text).logits.detach() - trained))
    change = largest(trained - before)
    print(f"{init:14} training {change:.3f}  read again: same seed {error[0]:.3f}, another seed {error[1]:.3f}")
    if error[0] > 1e-4 or (init == "pissa") != (error[1] < 1e-4) or (init != "pissa" and error[1] < change):
        sys.exit(f"CHANGED: an adapter made with {init} no longer reads back as described.")
EOF

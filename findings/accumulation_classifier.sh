#!/usr/bin/env bash
# Library:  transformers 5.23.0 (Trainer), accelerate 1.15.0, torch 2.13.0
# Expected: 8 examples at once, or one by one with gradient_accumulation_steps=8, give the same loss and gradient.
# Really:   so it is for language models. For a sequence classifier both come out 8 times too large: the losses of
#           the passes are added and never divided.
# Seen on 28 November 2026:
#   LlamaForCausalLM                8 at once    loss 4.158  gradient 0.771
#   LlamaForCausalLM                1, 8 passes  loss 4.158  gradient 0.771
#   LlamaForSequenceClassification  8 at once    loss 0.665  gradient 1.682
#   LlamaForSequenceClassification  1, 8 passes  loss 5.317  gradient 13.456
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 transformers==5.23.0 accelerate==1.15.0
cd "$work"
export HF_HOME="$work" HF_HUB_OFFLINE=1

venv/bin/python -I -W ignore - <<'EOF'
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, Trainer, TrainingArguments

config = LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, pad_token_id=0, num_labels=2,
)
texts = torch.randint(1, 64, (8, 16), generator=torch.Generator().manual_seed(0)).tolist()


def first_step(kind, batch, passes):
    classifies = kind is LlamaForSequenceClassification
    rows = [{"input_ids": text, "labels": i % 2 if classifies else text} for i, text in enumerate(texts)]
    torch.manual_seed(0)
    arguments = TrainingArguments(
        "out", per_device_train_batch_size=batch, gradient_accumulation_steps=passes, max_steps=1, logging_steps=1,
        max_grad_norm=1e9, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, log_level="error",
    )
    trainer = Trainer(kind(config), arguments, train_dataset=rows)
    trainer.log = lambda logs, *_: trainer.state.log_history.append(logs)  # keep, do not print
    trainer.train()
    return trainer.state.log_history[0]


ratio = {}
for kind in (LlamaForCausalLM, LlamaForSequenceClassification):
    whole, parts = first_step(kind, 8, 1), first_step(kind, 1, 8)
    ratio[kind] = parts["loss"] / whole["loss"], parts["grad_norm"] / whole["grad_norm"]
    for name, log in (("8 at once", whole), ("1, 8 passes", parts)):
        print(f"{kind.__name__:31} {name:12} loss {log['loss']:.3f}  gradient {log['grad_norm']:.3f}")
if not all(abs(value - 1) < 0.01 for value in ratio[LlamaForCausalLM]):
    sys.exit("CHANGED: accumulation now changes the loss or gradient of a language model.")
if not all(abs(value - 8) < 0.1 for value in ratio[LlamaForSequenceClassification]):
    sys.exit("CHANGED: loss and gradient of the classifier are no longer 8 times as large in 8 passes.")
EOF

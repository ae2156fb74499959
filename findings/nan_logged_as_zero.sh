#!/usr/bin/env bash
# Library:  transformers 5.23.0 (Trainer), accelerate 1.15.0, torch 2.13.0
# Expected: once the weights are NaN the logged loss is NaN, and so is the average over the run.
# Really:   the logged loss is 0.0 from then on, as of a perfect model, and the average over the run looks good too.
#           The default logging_nan_inf_filter=True leaves such losses out, and nothing else is left to average.
# Seen on 28 November 2026 (a far too large learning rate):
#   step 1: logged loss 4.156, gradient 1.572
#   step 2: logged loss 0.000, gradient nan
#   step 3: logged loss 0.000, gradient nan
#   step 4: logged loss 0.000, gradient nan
#   step 5: logged loss 0.000, gradient nan
#   logged for the whole run: 0.831; the model's loss now: nan
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 transformers==5.23.0 accelerate==1.15.0
cd "$work"
export HF_HOME="$work" HF_HUB_OFFLINE=1

venv/bin/python -I -W ignore - <<'EOF'
import math
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

torch.manual_seed(0)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, pad_token_id=0,
    )
)
texts = torch.randint(1, 64, (20, 16))
arguments = TrainingArguments(
    "out", per_device_train_batch_size=2, max_steps=5, logging_steps=1, learning_rate=1e20, optim="sgd",
    use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, log_level="error",
)
trainer = Trainer(model, arguments, train_dataset=[{"input_ids": t, "labels": t} for t in texts])
trainer.log = lambda logs, *_: trainer.state.log_history.append(logs)  # keep, do not print
trainer.train()
logs = trainer.state.log_history
for step, log in enumerate(logs[:-1], 1):
    print(f"step {step}: logged loss {log['loss']:.3f}, gradient {log['grad_norm']:.3f}")
true_loss = model(texts, labels=texts).loss.item()
print(f"logged for the whole run: {logs[-1]['train_loss']:.3f}; the model's loss now: {true_loss}")
if not math.isnan(true_loss):
    sys.exit("CHANGED: the weights are not NaN after this training, so nothing is shown.")
if any(log["loss"] != 0 for log in logs[1:-1]):
    sys.exit("CHANGED: losses that are NaN are no longer logged as 0.0.")
EOF

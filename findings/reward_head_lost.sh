#!/usr/bin/env bash
# Library:  trl 1.16.0 (RewardTrainer), peft 0.21.2, transformers 5.23.0, torch 2.13.0
# Expected: a reward model trained with LoRA is saved whole, so that it gives the same scores when it is read again.
# Really:   the head that makes the score is in the file only if LoraConfig has task_type="SEQ_CLS". Without it
#           training and saving go well, and each reading onto the base language model scores by a new random head.
# Seen on 28 November 2026 (scores of three texts):
#   task_type=SEQ_CLS: trained [0.031, -0.221, -0.058], read again [0.031, -0.221, -0.058], once more [0.031, -0.221, -0.058]
#   task_type=None: trained [-0.047, -0.126, -0.149], read again [-0.03, 0.158, 0.123], once more [-0.155, 0.165, 0.08]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 transformers==5.23.0 peft==0.21.2 trl==1.16.0 accelerate==1.15.0 datasets==5.2.0
cd "$work"
export HF_HOME="$work" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error

venv/bin/python -I -W ignore - 2> errors <<'EOF' || { tail -n 1 errors >&2; exit 1; }
import sys

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForSequenceClassification, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed,
)
from trl import RewardConfig, RewardTrainer

words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<pad>", "<eos>", *"abcdefgh"])}, unk_token="<pad>"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")
config = LlamaConfig(
    vocab_size=10, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, pad_token_id=0, eos_token_id=1,
)
set_seed(0)
LlamaForCausalLM(config).save_pretrained("base")
pairs = Dataset.from_list([{"chosen": f"{w} a b", "rejected": f"{w} c d"} for w in "efgh" * 10])
texts = torch.tensor([[6, 2, 3], [7, 4, 5], [8, 2, 5]])


def base():
    return AutoModelForSequenceClassification.from_pretrained("base", num_labels=1)


def scores(model):
    return [round(score, 3) for score in model.eval()(texts).logits.flatten().tolist()]


for task_type in ("SEQ_CLS", None):
    arguments = RewardConfig(
        "out", max_steps=10, learning_rate=1e-3, per_device_train_batch_size=4, use_cpu=True, bf16=False,
        report_to=[], save_strategy="no", disable_tqdm=True,
    )
    lora = LoraConfig(task_type=task_type, target_modules=["q_proj", "v_proj"])
    trainer = RewardTrainer(base(), arguments, train_dataset=pairs, processing_class=tokenizer, peft_config=lora)
    trainer.log = lambda *_: None
    trainer.train()
    trainer.save_model("adapter")
    trained, again = scores(trainer.model), []
    for seed in (1, 2):
        set_seed(seed)
        again.append(scores(PeftModel.from_pretrained(base(), "adapter")))
    print(f"task_type={task_type}: trained {trained}, read again {again[0]}, once more {again[1]}")
    if (task_type is not None) != (again[0] == again[1] == trained):
        sys.exit("CHANGED: whether the head is saved no longer depends on the task type as described.")
EOF

#!/usr/bin/env bash
# Library:  transformers 5.23.0, torch 2.13.0
# Expected: a process that has loaded a model on one thread and computed nothing can be forked, and the fork can load
#           one, too.
# Really:   in most forks from_pretrained fails: "pool INTERNAL ASSERT FAILED … Invalid thread pool!". After a fork
#           torch makes its pool of threads anew when a thread first asks for it, and is not made for two that ask at
#           once; transformers copies weights in several threads. A call of torch.set_num_threads in the fork's main
#           thread makes the pool before them.
# Seen on 29 November 2026 (forks of 20 that could not load):
#   as they are SEEN_PLAIN, after set_num_threads 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 transformers==5.23.0
cd "$work"
export HF_HOME="$work" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error OMP_NUM_THREADS=1

venv/bin/python -I -W ignore - <<'EOP'
import os
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

logging.disable_progress_bar()
sizes = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4}
LlamaForCausalLM(LlamaConfig(vocab_size=512, num_hidden_layers=16, **sizes)).save_pretrained("model")
LlamaForCausalLM.from_pretrained("model")


def failed(forks, prepare):
    """How many forks cannot load the model."""
    count = 0
    for _ in range(forks):
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            code = 1
            try:
                prepare()
                LlamaForCausalLM.from_pretrained("model")
                code = 0
            finally:
                os._exit(code)
        count += os.waitpid(child, 0)[1] != 0
    return count


plain, prepared = failed(20, lambda: None), failed(20, lambda: torch.set_num_threads(1))
print(f"forks of 20 that could not load: as they are {plain}, after set_num_threads {prepared}")
if not plain or prepared:
    sys.exit("CHANGED: forks load weights otherwise.")
EOP

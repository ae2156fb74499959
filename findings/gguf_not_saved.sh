#!/usr/bin/env bash
# Library:  transformers 5.23.0, gguf 0.19.0, torch 2.13.0
# Expected: weights read from a GGUF file are de-quantised, as the progress bar says: an ordinary float32 model, which
#           can be saved.
# Really:   all layers are ordinary and float32, but the model counts as quantised and save_pretrained raises. The
#           same weights put into a new model of the same configuration are saved.
# Seen on 28 November 2026 (a file that holds nothing but float32):
#   layers: Embedding torch.float32 Linear torch.float32 LlamaRMSNorm torch.float32
#   a new model with the same weights: saved
#   the model itself: The model is quantized with gguf and is not serializable
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 transformers==5.23.0 accelerate==1.15.0 gguf==0.19.0
cd "$work"
export HF_HOME="$work" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error

venv/bin/python -I -W ignore - 2> errors <<'EOF' || { tail -n 1 errors >&2; exit 1; }
import sys

import gguf
import numpy as np
from transformers import AutoModelForCausalLM

width, inner, layers, vocabulary = 64, 128, 2, 64
random = np.random.default_rng(0)
matrix = lambda *shape: (random.standard_normal(shape) * 0.05).astype(np.float32)
ones = np.ones(width, np.float32)

writer = gguf.GGUFWriter("tiny.gguf", "llama")
writer.add_context_length(64)
writer.add_embedding_length(width)
writer.add_block_count(layers)
writer.add_feed_forward_length(inner)
writer.add_head_count(2)
writer.add_head_count_kv(2)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_rope_dimension_count(width // 2)
writer.add_vocab_size(vocabulary)
writer.add_tokenizer_model("gpt2")
writer.add_token_list([f"t{i}" for i in range(vocabulary)])
writer.add_token_merges([])
tensors = {"token_embd": matrix(vocabulary, width), "output": matrix(vocabulary, width), "output_norm": ones}
for i in range(layers):
    tensors |= {f"blk.{i}.attn_{name}": matrix(width, width) for name in ("q", "k", "v", "output")}
    tensors |= {f"blk.{i}.ffn_{name}": matrix(inner, width) for name in ("gate", "up")}
    tensors |= {f"blk.{i}.ffn_down": matrix(width, inner), f"blk.{i}.attn_norm": ones, f"blk.{i}.ffn_norm": ones}
for name, tensor in tensors.items():
    writer.add_tensor(f"{name}.weight", tensor)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

model = AutoModelForCausalLM.from_pretrained(".", gguf_file="tiny.gguf")
print("layers:", *sorted({f"{type(m).__name__} {m.weight.dtype}" for m in model.modules() if hasattr(m, "weight")}))
copy = type(model)(model.config)
copy.load_state_dict(model.state_dict())
copy.save_pretrained("copy")
print("a new model with the same weights: saved")
try:
    model.save_pretrained("saved")
except ValueError as error:
    print("the model itself:", str(error).split(" - ")[0])
else:
    sys.exit("CHANGED: a model read from a GGUF file is now saved.")
EOF

#!/usr/bin/env bash
# Library:  peft 0.21.2, transformers 5.23.0, torch 2.13.0
# Expected: LoRA with target_modules="all-linear" adapts the same parts of every mixture of experts.
# Really:   of Mixtral it adapts the experts and even the router; of gpt-oss and Granite-MoE neither, though most of
#           the weights are in the experts. No warning is given.
# Seen on 28 November 2026:
#   mixtral: 79% of the weights are in experts; 0 warnings; adapted: mlp.experts mlp.gate self_attn.k_proj self_attn.o_proj self_attn.q_proj self_attn.v_proj
#   gpt_oss: 80% of the weights are in experts; 0 warnings; adapted: self_attn.k_proj self_attn.o_proj self_attn.q_proj self_attn.v_proj
#   granitemoe: 80% of the weights are in experts; 0 warnings; adapted: self_attn.k_proj self_attn.o_proj self_attn.q_proj self_attn.v_proj
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 transformers==5.23.0 peft==0.21.2
cd "$work"
export HF_HOME="$work" HF_HUB_OFFLINE=1

venv/bin/python -I - <<'EOF'
import sys
import warnings

from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, GptOssConfig, GraniteMoeConfig, MixtralConfig

sizes = dict(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, num_local_experts=4, pad_token_id=0,
)
adapted = {}
for config in (MixtralConfig(**sizes), GptOssConfig(head_dim=16, **sizes), GraniteMoeConfig(**sizes)):
    base = AutoModelForCausalLM.from_config(config)
    sizes_of = {name: p.numel() for name, p in base.named_parameters()}
    experts = sum(n for name, n in sizes_of.items() if "expert" in name or "block_sparse" in name)
    share = experts / sum(sizes_of.values())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    told = [warning for warning in told if issubclass(warning.category, UserWarning)]
    layer = [name.split("layers.0.")[1] for name, _ in model.named_parameters() if "layers.0." in name]
    names = sorted({name.split(".lora_")[0].removesuffix(".base_layer") for name in layer if ".lora_" in name})
    adapted[config.model_type] = names
    print(f"{config.model_type}: {share:.0%} of the weights are in experts; {len(told)} warnings; adapted:", *names)
if not any("experts" in name for name in adapted["mixtral"]) or "mlp.gate" not in adapted["mixtral"]:
    sys.exit("CHANGED: all-linear no longer adapts the experts and the router of Mixtral.")
for kind in ("gpt_oss", "granitemoe"):
    if not adapted[kind] or any("self_attn" not in name for name in adapted[kind]):
        sys.exit(f"CHANGED: all-linear now adapts more than the attention of {kind}.")
EOF

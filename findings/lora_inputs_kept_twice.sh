#!/usr/bin/env bash
# Library:  PEFT 0.21.2 with torch 2.13.0
# Expected: under bfloat16 autocast, layers that read one bfloat16 tensor keep that tensor for the backward pass, once.
# Really:   each LoRA layer casts its input to the adapter's float32, autocast casts that back to bfloat16, and each
#           adapted layer keeps its copy: of the same numbers. PEFT's own switch against it gives the same gradients.
# Seen on 30 November 2026 (tensors saved for the backward pass, three layers 256 wide that read the same 1,024 tokens):
#   casts 1.62 MB, casts off 0.57 MB, gradients equal: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
cd "$work"
venv/bin/pip install --quiet --no-compile --disable-pip-version-check torch==2.13.0 peft==0.21.2 transformers==5.23.0 numpy

cat > saved.py <<'EOF'
import torch
from peft import LoraConfig, get_peft_model
from peft.helpers import disable_input_dtype_casting


class Projections(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (torch.nn.Linear(256, 256, bias=False) for _ in range(3))

    def forward(self, x):
        return self.q(x) + self.k(x) + self.v(x)


torch.manual_seed(0)
base = Projections().to(torch.bfloat16)
model = get_peft_model(base, LoraConfig(r=8, target_modules=["q", "k", "v"], init_lora_weights=False))
inputs = torch.randn(1024, 256, dtype=torch.bfloat16, requires_grad=True)


def backward(casts):
    """Return the bytes of activations saved for the backward pass, and the gradients."""
    model.zero_grad()
    saved = {}
    weights = {p.data_ptr() for p in model.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if tensor.shape[0] == 1024 and storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16), disable_input_dtype_casting(model, active=not casts):
            outputs = model(inputs)
    outputs.float().square().mean().backward()
    return sum(nbytes for nbytes, _ in saved.values()), [p.grad.clone() for p in model.parameters() if p.grad is not None]


sizes, gradients = zip(*(backward(casts) for casts in (True, False)))
same = all(torch.equal(one, other) for one, other in zip(*gradients))
print(f"{sizes[0] / 1e6:.2f} {sizes[1] / 1e6:.2f} {same}")
EOF
read -r cast off same < <(venv/bin/python -I saved.py 2>/dev/null)
echo "casts $cast MB, casts off $off MB, gradients equal: $same"
if [ "$same" != True ] || ! awk "BEGIN { exit !($cast > 2 * $off) }"; then
  echo "CHANGED: LoRA layers no longer keep an input each, or the switch changes gradients." >&2
  exit 1
fi

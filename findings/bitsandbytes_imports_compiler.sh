#!/usr/bin/env bash
# Library:  bitsandbytes 0.50.2 with torch 2.13.0 (PEFT imports it, where it is installed, for every adapter)
# Expected: importing it reads kernels and classes; torch's compiler is imported by the first thing that is compiled.
# Really:   as it is imported it asks torch.compile for four functions of its default backend, and torch imports the
#           whole of Inductor for that: most of what the import takes, in programs that never use 4 or 8 bits.
# Seen on 29 November 2026 (CPU seconds, torch imported before):
#   0.50.2 as it is 3.58, Inductor imported: True; compiled when called 0.05, Inductor imported: False
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
cd "$work"
venv/bin/pip install --quiet --no-compile --disable-pip-version-check torch==2.13.0 bitsandbytes==0.50.2 numpy

cat > import.py <<'EOF'
import sys
import time

import torch

if sys.argv[1] == "later":

    def later(function=None, **options):
        return function or later  # a stand-in: nothing is called here

    torch.compile = later
began = time.process_time()
import bitsandbytes

print(f"{time.process_time() - began:.2f} {'torch._inductor.compile_fx' in sys.modules} {bitsandbytes.__version__}")
EOF
for how in now later now later; do  # the first of each compiles modules to bytecode
  read -r "seconds_$how" "imported_$how" version < <(venv/bin/python -I import.py "$how" 2>/dev/null)
done
echo "$version as it is $seconds_now, Inductor imported: $imported_now;" \
  "compiled when called $seconds_later, Inductor imported: $imported_later"
if [ "$imported_now $imported_later" != "True False" ]; then
  echo "CHANGED: the import alone does not bring Inductor with it, or not by torch.compile." >&2
  exit 1
fi

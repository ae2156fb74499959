#!/usr/bin/env bash
# Makes .venv with everything pinned: `make install`. PYTHON chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-python3}"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "finetui needs Python 3.11 or newer; this is $("$python" --version). Try: make install PYTHON=python3.12" >&2
  exit 1
}
[ -x .venv/bin/python ] || "$python" -m venv .venv
# To compile all modules takes a minute, so only those are compiled that runs import (at the end).
pip=(.venv/bin/python -m pip --disable-pip-version-check install --quiet --no-compile)
torch=$(sed -n 's/^torch==//p' constraints.txt)

# An unpinned torch pulls gigabytes of CUDA. Without a GPU, take the CPU build: from whatever sources pip is
# configured with, else from PyTorch's own index, else (macOS, Arm) the ordinary build, which is a CPU one there.
if .venv/bin/python -c "from importlib.metadata import version; version('torch')" 2>/dev/null; then
  :  # asked without an import, which takes ten seconds where nothing is compiled yet
elif command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then
  "${pip[@]}" -c constraints.txt "torch==$torch"
elif [ "$(uname -s)" = Linux ]; then
  "${pip[@]}" "torch==$torch+cpu" 2>/dev/null ||
    "${pip[@]}" --retries 1 --index-url https://download.pytorch.org/whl/cpu "torch==$torch+cpu" 2>/dev/null ||
    "${pip[@]}" -c constraints.txt "torch==$torch"
fi
"${pip[@]}" -c constraints.txt -e ".[test]"
# Also where PYTHONDONTWRITEBYTECODE is set, as in many containers: every run would take 11 s longer to start.
PYTHONDONTWRITEBYTECODE='' .venv/bin/python -c "
from engine.models.quiet import quiet_libraries
quiet_libraries()
import engine.training.loop, engine.training.setup, peft, tui.app"
touch .venv/.installed

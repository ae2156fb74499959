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
pip=(.venv/bin/python -m pip --disable-pip-version-check)
torch=$(sed -n 's/^torch==//p' constraints.txt)

# Prints what pip is told under a name, by its files or the environment, which comes first.
told() { "${pip[@]}" config list | sed -n "s/^[^=]*\.$1='\(.*\)'\$/\1/p" | head -n 1 | sed 's/\\n/ /g'; }

# Installs by uv, in a fifth of pip's time and from pip's sources; by pip where uv cannot be had or fails.
install() {
  if [ -x .venv/bin/uv ]; then
    UV_DEFAULT_INDEX=$index UV_INDEX=$more UV_FIND_LINKS=${links// /,} UV_INDEX_STRATEGY=unsafe-best-match \
      ${cert:+env "SSL_CERT_FILE=$cert"} .venv/bin/uv pip install --quiet --python .venv/bin/python "$@" && return
  fi
  "${pip[@]}" install --quiet --no-compile "$@"
}
index=$(told index-url) more=$(told extra-index-url) links=$(told find-links) cert=$(told cert)
index=${index:-https://pypi.org/simple}
[ -x .venv/bin/uv ] || "${pip[@]}" install --quiet -c constraints.txt uv 2>/dev/null || true

# An unpinned torch pulls gigabytes of CUDA. Without a GPU, take the CPU build: from whatever sources pip is
# configured with, else from PyTorch's own index, else (macOS, Arm) the ordinary build, which is a CPU one there.
if .venv/bin/python -c "from importlib.metadata import version; version('torch')" 2>/dev/null; then
  :  # asked without an import, which takes ten seconds where nothing is compiled yet
elif command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then
  install -c constraints.txt "torch==$torch"
elif [ "$(uname -s)" = Linux ]; then
  install "torch==$torch+cpu" 2>/dev/null ||
    PIP_RETRIES=1 install --index-url https://download.pytorch.org/whl/cpu "torch==$torch+cpu" 2>/dev/null ||
    install -c constraints.txt "torch==$torch"
fi
install -c constraints.txt -e ".[test]"
# The store works with the next DuckDB as well: `make test` runs its tests again with this one first on the path.
rm -rf .venv/duckdb-2
install --no-deps --target .venv/duckdb-2 duckdb==2.0.1
# Its runs are imported in the tests. It asks for an older Pillow than theirs, and needs none for what they log.
rm -rf .venv/trackio
install --no-deps --target .venv/trackio trackio==0.43.0 gradio-client==2.7.2 orjson==3.13.0
# Also where PYTHONDONTWRITEBYTECODE is set, as in many containers: every run would take 11 s longer to start.
PYTHONDONTWRITEBYTECODE='' .venv/bin/python -c "
from engine.models.quiet import quiet_libraries
quiet_libraries()
import engine.training.loop, engine.training.setup, peft, tui.app
import tui.cli.commands, tui.cli.ls, tui.cli.opening, tui.screens.palette, tui.widgets.curves, tui.widgets.hardware
import textual.drivers.linux_driver, textual.layouts.horizontal, textual.layouts.vertical, textual.scrollbar"
touch .venv/.installed

#!/usr/bin/env bash
# Library:  wandb 0.31.0 (WANDB_MODE=offline)
# Expected: what a run logged seconds ago is in its file, also if the process is killed (out of memory, say).
# Really:   the file grows by whole blocks of 32 KiB. A run that has logged less than one leaves a file of 7 bytes, which
#           has not even the run's name; nothing of it can be synced.
# Seen on 30 November 2026 (20 steps logged, 10 seconds later SIGKILL):
#   killed:   7 bytes, 0 of 20 steps
#   finished: 20 of 20 steps
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check wandb==0.31.0
cd "$work"
export HOME=$work WANDB_MODE=offline WANDB_SILENT=true

cat > run.py <<'EOF'
import os
import signal
import sys
import time

import wandb

settings = wandb.Settings(console="off", x_disable_stats=True)
run = wandb.init(project="tiny", id=sys.argv[1], name="run", settings=settings)
for step in range(20):
    run.log({"loss": 1 / (step + 1)})
time.sleep(10)
if sys.argv[1] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
run.finish()
EOF
venv/bin/python -I -W ignore run.py finish
{ venv/bin/python -I -W ignore run.py kill || true; } 2> /dev/null
sleep 5  # for wandb's own process, which outlives it a moment

venv/bin/python -I -W ignore - 2>> errors <<'EOF' || { tail -n 1 errors >&2; exit 1; }
import glob
import sys
from pathlib import Path

killed, finished = (Path(glob.glob(f"wandb/offline-run-*-{end}/*.wandb")[0]).read_bytes() for end in ("kill", "finish"))
# A step has its time in the history and in the summary.
steps = [data.count(b"_timestamp") // 2 for data in (killed, finished)]
print(f"killed:   {len(killed)} bytes, {steps[0]} of 20 steps")
print(f"finished: {steps[1]} of 20 steps")
if steps[1] != 20:
    sys.exit("CHANGED: the file of a run that finished has another form.")
if len(killed) > 7:
    sys.exit("CHANGED: a run that is killed has written something.")
EOF

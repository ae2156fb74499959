#!/usr/bin/env bash
# Library:  torch 2.13.0 (torchrun, torch.distributed.run), Linux
# Expected: the ranks are in torchrun's process group, so that what ends the group (a shell's kill %1, a scheduler's
#           killpg, a container runtime that knows one group) ends the training.
# Really:   torchrun starts every rank in a session of its own. SIGKILL for its whole process group ends torchrun alone:
#           the ranks go on, with the GPUs that they hold, and nobody is left who knows them.
# Seen on 29 November 2026:
#   torchrun in group G, 2 ranks in 2 other groups and sessions; after SIGKILL for G: torchrun gone, 2 ranks alive
set -euo pipefail
work=$(mktemp -d)
trap 'pkill -KILL -f "$work/rank.py" || true; rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
cd "$work"
venv/bin/pip install --quiet --no-compile --disable-pip-version-check torch==2.13.0 numpy psutil

cat > rank.py <<'EOF'
import os
import time

open(f"rank-{os.environ['RANK']}", "w").write(f"{os.getpid()} {os.getpgid(0)} {os.getsid(0)}")
time.sleep(120)
EOF
cat > look.py <<'EOF'
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "rank.py"]
torchrun = subprocess.Popen(command, process_group=0, stderr=subprocess.DEVNULL)
group, session = os.getpgid(torchrun.pid), os.getsid(torchrun.pid)
files = [Path("rank-0"), Path("rank-1")]
deadline = time.monotonic() + 110
while not all(file.exists() and file.read_text().count(" ") == 2 for file in files):
    assert time.monotonic() < deadline, "the ranks did not start"
    time.sleep(0.2)
ranks = [tuple(map(int, file.read_text().split())) for file in files]
others = {of_group for _, of_group, _ in ranks} - {group}
sessions = {of_session for _, _, of_session in ranks} - {session}
os.killpg(group, signal.SIGKILL)
torchrun.wait()
time.sleep(3)
alive = [pid for pid, _, _ in ranks if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
print(
    f"torchrun in group G, {len(ranks)} ranks in {len(others)} other groups and sessions; "
    f"after SIGKILL for G: torchrun gone, {len(alive)} ranks alive"
)
for pid in alive:
    os.kill(pid, signal.SIGKILL)
sys.exit(0 if (len(others), len(sessions), len(alive)) == (2, 2, 2) else 1)
EOF
if ! venv/bin/python look.py; then
  echo "CHANGED: torchrun's ranks are in its process group, or end with it." >&2
  exit 1
fi

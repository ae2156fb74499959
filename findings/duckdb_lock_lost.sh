#!/usr/bin/env bash
# Library:  DuckDB 1.5.6 and 2.0.0
# Expected: while a process has a database open for writing, no other process can open it ("Could not set lock on
#           file"), whatever else the first one does.
# Really:   once the first process has read the file by any other way, say copied it for a backup, the lock is gone:
#           locks of fcntl belong to the process, and closing any descriptor of the file gives them up (POSIX). A second
#           process then opens it, and what it commits is lost when the first one goes on writing.
# Seen on 30 November 2026 (of 1000 rows that the second process has committed):
#   1.5.6 before the copy: could not set lock; after it: opened; left of its rows: 0
#   2.0.0 before the copy: could not set lock; after it: opened; left of its rows: 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
cd "$work"

for version in 1.5.6 2.0.0; do
  venv/bin/pip install --quiet --no-compile --disable-pip-version-check "duckdb==$version"
  venv/bin/python -I - <<'EOF'
import shutil
import subprocess
import sys

import duckdb

name = f"file_{duckdb.__version__.replace('.', '_')}.duckdb"
SECOND = f"""
import duckdb
with duckdb.connect({name!r}) as database:
    database.execute("INSERT INTO t SELECT 2 FROM range(1000)")
"""


def second():
    done = subprocess.run([sys.executable, "-I", "-c", SECOND], capture_output=True, text=True)
    return done.returncode == 0, (done.stderr.strip().splitlines() or [""])[-1]


with duckdb.connect(name) as database:
    database.execute("CREATE TABLE t AS SELECT 1 AS writer FROM range(1000)")
    database.execute("CHECKPOINT")
    opened, said = second()
    print(duckdb.__version__, "before the copy:", "opened" if opened else said[:60])
    if opened:
        sys.exit("the lock is missing from the start: this script shows nothing")
    shutil.copyfile(name, f"backup_{name}")
    opened, said = second()
    print(duckdb.__version__, "after the copy:", "opened" if opened else said[:60])
    if not opened:
        sys.exit("CHANGED: the lock outlives the copy.")
    database.execute("INSERT INTO t SELECT 1 FROM range(1000)")
    database.execute("CHECKPOINT")
with duckdb.connect(name) as database:
    left = database.execute("SELECT count(*) FROM t WHERE writer = 2").fetchone()[0]
print(duckdb.__version__, "committed by the second process: 1000, left of them:", left)
if left == 1000:
    sys.exit("CHANGED: both writers' rows are there.")
EOF
done

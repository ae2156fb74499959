#!/usr/bin/env bash
# Library:  trackio 0.43.0
# Expected: a loss of NaN is stored so that SQL over trackio's SQLite file either leaves it out or shows it.
# Really:   it is stored as the JSON string "NaN". SQLite counts a string as 0 in avg(), so that one NaN makes the
#           average look better, and as larger than any number in max().
# Seen on 28 November 2026 (losses 1, NaN, 3):
#   stored: {"loss":1.0} {"loss":"NaN"} {"loss":3.0}
#   avg 1.333 (of the two numbers: 2.000), max 'NaN'
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check trackio==0.43.0
cd "$work"
export HF_HOME="$work" HF_HUB_OFFLINE=1 TRACKIO_DIR="$work/trackio"

venv/bin/python -I -W ignore - 2> errors <<'EOF' || { tail -n 1 errors >&2; exit 1; }
import contextlib
import sqlite3
import sys

import trackio

with contextlib.redirect_stdout(None):
    trackio.init(project="tiny", name="run")
    for loss in (1.0, float("nan"), 3.0):
        trackio.log({"loss": loss})
    trackio.finish()

database = sqlite3.connect("trackio/tiny.db")
stored = [row[0] for row in database.execute("SELECT CAST(metrics AS TEXT) FROM metrics ORDER BY step")]
average, largest = database.execute(
    "SELECT avg(loss), max(loss) FROM (SELECT json_extract(CAST(metrics AS TEXT), '$.loss') AS loss FROM metrics)"
).fetchone()
print("stored:", *stored)
print(f"avg {average:.3f} (of the two numbers: 2.000), max {largest!r}")
if stored[1] != '{"loss":"NaN"}' or abs(average - 4 / 3) > 1e-9 or largest != "NaN":
    sys.exit("CHANGED: NaN is no longer stored as a string that SQLite counts as 0.")
EOF

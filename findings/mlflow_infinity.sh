#!/usr/bin/env bash
# Library:  mlflow 3.17.2 (its SQLite database, which is its default)
# Expected: a metric that is logged as infinity is read back as infinity, and SQL over mlflow.db shows a NaN as no number.
# Really:   infinity comes back as 1.797e308, the largest float, a finite number that math.isinf does not see; NaN is
#           stored as 0, with a mark in another column, so that an average in SQL counts it as 0.
# Seen on 30 November 2026 (losses 1, NaN, 3, infinity):
#   read back: [1.0, nan, 3.0, 1.7976931348623157e+308]
#   stored: (1.0, 0) (0.0, 1) (3.0, 0) (1.7976931348623157e+308, 0)
#   avg of the first three 1.333 (of the two numbers: 2.000)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check mlflow==3.17.2
cd "$work"
export MLFLOW_DISABLE_TELEMETRY=true

venv/bin/python -I -W ignore - 2> errors <<'EOF' || { tail -n 1 errors >&2; exit 1; }
import math
import sqlite3
import sys

import mlflow

mlflow.set_tracking_uri("sqlite:///mlflow.db")
with mlflow.start_run() as run:
    for step, loss in enumerate((1.0, math.nan, 3.0, math.inf)):
        mlflow.log_metric("loss", loss, step=step)
back = [metric.value for metric in mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")]

database = sqlite3.connect("mlflow.db")
stored = database.execute("SELECT value, is_nan FROM metrics ORDER BY step").fetchall()
(average,) = database.execute("SELECT avg(value) FROM metrics WHERE step < 3").fetchone()
print("read back:", back)
print("stored:", *stored)
print(f"avg of the first three {average:.3f} (of the two numbers: 2.000)")
if back[3] != sys.float_info.max or stored[1] != (0.0, 1) or abs(average - 4 / 3) > 1e-9:
    sys.exit("CHANGED: infinity is read back as infinity, or NaN is no longer stored as 0.")
EOF

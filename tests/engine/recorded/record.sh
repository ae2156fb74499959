#!/usr/bin/env bash
# Writes the files of MLflow and trackio beside this script, by the tools themselves: `bash record.sh`. They are kept,
# since MLflow takes 900 MB in an environment of its own, and trackio another Pillow than the tests.
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check mlflow==3.17.2 trackio==0.43.0 psutil
cd "$work"
export HOME=$work HF_HOME=$work HF_HUB_OFFLINE=1 TRACKIO_DIR=$work/trackio MLFLOW_DISABLE_TELEMETRY=true

cat > mlflow_runs.py <<'PY'
import math
import sys
import time

import mlflow

mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("tiny")
mlflow.set_system_metrics_sampling_interval(0.2)
with mlflow.start_run(run_name="parent", description="a note", tags={"team": "x y", "best": ""}):
    mlflow.log_params({"lr": 1e-4, "model_name": "gpt2", "packing": True, "optimizer": None})
    for step, loss in enumerate((3.0, math.nan, math.inf)):
        mlflow.log_metric("loss", loss, step=step)
        mlflow.log_metric("without_step", 3.0 - step)
    mlflow.log_metric("eval/loss", -math.inf, step=2)
    mlflow.log_metric("before", 1.0, step=-3)
    with mlflow.start_run(run_name="child", nested=True, log_system_metrics=True):
        mlflow.log_metric("loss", 1.0, step=5)
        time.sleep(1.5)
try:
    with mlflow.start_run(run_name="broken"):
        mlflow.log_metric("loss", 2.0, step=1)
        raise RuntimeError
except RuntimeError:
    pass
with mlflow.start_run(run_name="gone") as gone:
    mlflow.log_metric("loss", 2.0, step=1)
mlflow.delete_run(gone.info.run_id)
mlflow.start_run(run_name="killed")
mlflow.log_metric("loss", 2.5, step=1)
sys.stdout.flush()
__import__("os")._exit(1)  # without a word to MLflow
PY
venv/bin/python mlflow_runs.py sqlite:///mlflow.db || true
MLFLOW_ALLOW_FILE_STORE=true venv/bin/python mlflow_runs.py "file://$work/mlruns" || true

venv/bin/python - <<'PY'
import trackio

trackio.init(project="tiny", name="first", config={"lr": 1e-4, "peft": {"r": 8}}, group="night")
for step, loss in enumerate((3.0, float("nan"), 1.0)):
    trackio.log({"loss": loss, "eval_loss": float("inf")}, step=10 * step)
trackio.log_system({"gpu": 3.0})
trackio.finish()
trackio.init(project="tiny", name="first", config={"lr": 2e-4})  # another run of the name
trackio.log({"train/loss": 2.0, "train/global_step": 7})
trackio.finish()
PY
venv/bin/python - <<'PY'
import sqlite3

for name in ("mlflow.db", "trackio/tiny.db"):
    with sqlite3.connect(name) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("VACUUM")
PY
gzip -9 -n -c mlflow.db > "$here/mlflow.db.gz"
gzip -9 -n -c trackio/tiny.db > "$here/trackio.db.gz"
tar --sort=name --owner=0 --group=0 --numeric-owner -c mlruns | gzip -9 -n > "$here/mlruns.tar.gz"

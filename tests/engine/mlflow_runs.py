"""A program that MLflow tracks where each of its arguments says: nested, failed, deleted and killed runs."""

import math
import os
import sys
import time

import mlflow


def track(uri: str) -> None:
    mlflow.set_tracking_uri(uri)
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
    os._exit(1)  # without a word to MLflow


for store in sys.argv[
    1:
]:  # in a process each, since the last run is killed; what takes long, the import, once
    if not (child := os.fork()):
        track(store)
    os.waitpid(child, 0)

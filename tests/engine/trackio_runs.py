"""A program that trackio tracks, with two runs of one name. It runs with trackio's own folder on the path."""

import trackio

trackio.init(project="tiny", name="first", config={"lr": 1e-4, "peft": {"r": 8}}, group="night")
for step, loss in enumerate((3.0, float("nan"), 1.0)):
    trackio.log({"loss": loss, "eval_loss": float("inf")}, step=10 * step)
trackio.log_system({"gpu": 3.0})
trackio.finish()
trackio.init(project="tiny", name="first", config={"lr": 2e-4})
trackio.log({"train/loss": 2.0, "train/global_step": 7})
trackio.finish()

"""A run of finetui for the Trainer of transformers, and what is built on it: TRL, axolotl, LLaMA-Factory.

trainer = Trainer(..., callbacks=[finetui.TrainerCallback()])
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers

from finetui.devices import devices
from finetui.logged import Run, init, log

_NUMBERS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
NOT_CONFIG = ("run_name", "report_to", "logging_dir")


class TrainerCallback(transformers.TrainerCallback):
    """Logs what the Trainer reports, its checkpoints, and how it ends. Its arguments become the config."""

    def __init__(self, run: Run | None = None, **of_run: Any) -> None:
        """`run`: one that goes on after the training; else one is begun with it, by `finetui.init(**of_run)`."""
        self._given = run
        self._of_run = of_run
        self.run = run
        self._has_evaluated = False

    def on_train_begin(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any = None,
        train_dataloader: Any = None,
        **_: Any,
    ) -> None:
        if not state.is_world_process_zero:
            return
        try:
            self._begin(args, state, model, train_dataloader)
        except (
            Exception
        ) as error:  # arguments or a model of a kind that nobody has seen: the training goes on
            log.warning("finetui: the run lacks its config: %s: %s", type(error).__name__, error)

    def _begin(self, args: Any, state: Any, model: Any, loader: Any) -> None:
        described = _described(args, model)
        if self._given is None and (self.run is None or not self.run.active):
            config = {**described, **dict(self._of_run.get("config") or {})}
            name = self._of_run.get("name") or getattr(args, "run_name", None) or Path(args.output_dir).name
            self.run = init(**{**self._of_run, "config": config, "name": name, "rank": 0})
        elif self.run is not None and self.run.active:
            self.run.config.setdefaults(described)
        if self.run is not None and self.run.active:
            facts = {**_weights(model), **_precision(args, model), **_devices(args), **_sizes(args)}
            self.run.plan(state.max_steps, **facts, **_rows("train_examples", loader))
            _judge(self.run, args)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if self.run is not None and self.run.active and logs:
            self.run.log(
                {name: value for name, value in logs.items() if name != "total_flos"}, step=state.global_step
            )

    def on_evaluate(self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **_: Any) -> None:
        if self.run is not None and self.run.active and not self._has_evaluated:
            self._has_evaluated = True  # of several sets the first
            self.run.plan(**_rows("heldout_examples", eval_dataloader))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.run is not None and self.run.active and folder.is_dir():
            self.run.checkpoint(state.global_step, folder)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._given is None and self.run is not None:
            self.run.finish()


def _described(args: Any, model: Any) -> dict[str, Any]:
    """Return the arguments of the Trainer, and what is trained."""
    config = {
        name: value for name, value in args.to_dict().items() if name not in NOT_CONFIG and value is not None
    }
    base = getattr(model, "config", None)
    if name := getattr(base, "_name_or_path", None) or getattr(base, "model_type", None):
        config["model"] = name
    adapters = getattr(model, "peft_config", None) or {}
    for adapter in list(adapters.values())[:1]:
        config["method"] = str(getattr(adapter.peft_type, "value", adapter.peft_type)).lower()
        config["peft"] = {name: value for name, value in adapter.to_dict().items() if value is not None}
    return config


def _judge(run: Run, args: Any) -> None:
    """Say of the metric that the Trainer chooses checkpoints by whether the greatest is the best."""
    name, greater = getattr(args, "metric_for_best_model", None), getattr(args, "greater_is_better", None)
    if name is not None and greater is not None:
        run.judge(name if name.startswith("eval_") else f"eval_{name}", higher_is_better=bool(greater))


def _weights(model: Any) -> dict[str, int]:
    try:
        sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    except Exception:  # no model of torch
        return {}
    return {
        "parameters": sum(size for size, _ in sizes),
        "trainable": sum(size for size, trained in sizes if trained),
    }


def _devices(args: Any) -> dict[str, Any]:
    """Return what the Trainer computes on, over all processes."""
    kind = args.device.type
    if kind == "cuda":
        return devices(args.n_gpu, args.world_size)
    return {"device": kind, "gpus": 0} if kind == "cpu" else {"device": kind}


def _precision(args: Any, model: Any) -> dict[str, str]:
    """Return what is computed in: mixed, as the arguments say, else what the weights are in."""
    if args.bf16 or args.fp16:
        return {"precision": "bf16" if args.bf16 else "fp16"}
    try:
        number = str(next(model.parameters()).dtype).removeprefix("torch.")
    except (AttributeError, StopIteration):
        return {}
    return {"precision": _NUMBERS.get(number, number)}


def _sizes(args: Any) -> dict[str, int]:
    """Return where TRL cuts examples, and the tokens of a step where it packs them."""
    longest = getattr(args, "max_length", None) or getattr(args, "max_seq_length", None)
    if not longest:
        return {}
    sequences = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    packed = {"tokens_per_step": sequences * longest} if getattr(args, "packing", False) else {}
    return {"max_length": longest, **packed}


def _rows(name: str, loader: Any) -> dict[str, int]:
    """Return under a name how many examples a loader has; nothing of a stream."""
    try:
        return {name: len(loader.dataset)}
    except (AttributeError, TypeError):
        return {}

"""Runs of TRL's SFTTrainer on examples that finetui tokenised, for throughput.py and the parity test.

    python -m benchmarks.trl_sft SPEC.json ...

SPEC: model, tokenizer, data (.npz: tokens, mask, ends), method (or adapter, a folder to go on from), lr, steps,
flags (fields of SFTConfig), out; `heldout`: how many of the last examples are held out, for `eval_strategy`. Writes to
`out` the time of each optimiser step, its loss, and the tokens (padding not counted) of each forward pass.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def main(spec: dict[str, Any]) -> None:
    import datasets
    import torch
    from peft import AutoPeftModelForCausalLM, LoraConfig
    from transformers import AutoTokenizer, BitsAndBytesConfig, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    saved = np.load(spec["data"])
    parts = zip(*(np.split(saved[key], saved["ends"][:-1]) for key in ("tokens", "mask")), strict=True)
    rows = [
        {"input_ids": tokens.tolist(), "labels": np.where(mask, tokens, -100).tolist()}
        for tokens, mask in parts
    ]
    heldout = rows[len(rows) - spec["heldout"] :] if spec.get("heldout") else None
    rows = rows[: len(rows) - len(heldout or [])]
    options: dict[str, Any] = {}
    if spec["method"] == "qlora":
        kind = torch.bfloat16 if spec["flags"].get("bf16", True) else torch.float32
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=kind,
        )
    lora = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear")
    adapter = spec.get("adapter")
    config = SFTConfig(
        output_dir=str(Path(spec["out"]).parent / "trl"),
        max_steps=spec["steps"],
        learning_rate=spec["lr"],
        report_to="none",
        save_strategy="no",
        use_cpu=not torch.cuda.is_available(),
        model_init_kwargs=None if adapter else options,
        disable_tqdm=True,
        logging_steps=1,
        **spec["flags"],
    )
    trainer = SFTTrainer(
        model=AutoPeftModelForCausalLM.from_pretrained(adapter, is_trainable=True, dtype=torch.float32)
        if adapter
        else spec["model"],
        args=config,
        train_dataset=datasets.Dataset.from_list(rows),
        eval_dataset=datasets.Dataset.from_list(heldout) if heldout else None,
        processing_class=AutoTokenizer.from_pretrained(spec["tokenizer"]),
        peft_config=None if adapter or spec["method"] == "full" else lora,
    )
    times: list[float] = []
    passes: list[int] = []
    collate = trainer.data_collator

    def counted(examples: list[dict[str, Any]]) -> Any:
        passes.append(sum(len(example["input_ids"]) for example in examples))
        return collate(examples)

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.time())

    trainer.data_collator = counted
    trainer.add_callback(Clock())
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    Path(spec["out"]).write_text(json.dumps({"times": times, "passes": passes, "losses": losses}))


if __name__ == "__main__":
    for path in sys.argv[1:]:
        main(json.loads(Path(path).read_text()))

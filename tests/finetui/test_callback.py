"""The callback for the Trainer of transformers, with a model of a few weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

import finetui
from finetui import callback
from finetui.files import read_json
from finetui.home import Home
from finetui.log import read_log


class Few(torch.nn.Module):
    """Two weights."""

    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": ((self.line(x) - labels) ** 2).mean(), "logits": self.line(x)}


ROWS = [{"x": torch.tensor([float(i)]), "labels": torch.tensor([2.0 * i])} for i in range(8)]


GPUS = {  # what torch says where one of eight is in use
    "is_initialized": lambda: True,
    "device_count": lambda: 8,
    "memory_reserved": lambda index: 1000 if index == 3 else 0,
    "get_device_name": lambda index: "NVIDIA H200",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("FINETUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FINETUI_DAEMON", "off")
    return Home(tmp_path / "home")


def train(folder: Path, callback: finetui.TrainerCallback, **more: Any) -> None:
    arguments = transformers.TrainingArguments(
        str(folder / "out"), max_steps=4, logging_steps=1, save_steps=2, eval_strategy="steps", eval_steps=2,
        report_to=[], use_cpu=True, disable_tqdm=True, learning_rate=1e-3, **more,
    )  # fmt: skip
    trainer = transformers.Trainer(
        Few(), arguments, train_dataset=ROWS, eval_dataset=ROWS[:2], callbacks=[callback]
    )
    trainer.train()


def test_a_trainer_is_a_run(tmp_path: Path) -> None:
    logs = finetui.TrainerCallback(project="mine", config={"seed": 7})
    train(tmp_path, logs, metric_for_best_model="samples_per_second", greater_is_better=True)
    run = logs.run
    assert run is not None
    assert run.path is not None
    assert not run.active
    lines = list(read_log(run.path / "attempts" / "1" / "events.jsonl"))
    values: dict[str, list[int]] = {}
    for line in lines:
        for name in line.get("values", {}):
            values.setdefault(name, []).append(line["step"])
    assert values["train/loss"] == values["train/lr"] == values["train/grad_norm"] == [1, 2, 3, 4]
    assert values["heldout/loss"] == [2, 4]
    first, *_, plan = [line for line in lines if line["kind"] == "plan"]
    facts = {
        "total_steps": 4, "parameters": 2, "trainable": 2, "device": "cpu", "gpus": 0, "precision": "fp32",
        "train_examples": 8,
    }  # fmt: skip
    assert {key: value for key, value in first.items() if key not in ("kind", "t")} == facts
    assert {key: plan[key] for key in (*facts, "heldout_examples")} == {**facts, "heldout_examples": 2}
    saved = [(line["step"], line["path"]) for line in lines if line["kind"] == "checkpoint"]
    assert saved == [(step, str(tmp_path / "out" / f"checkpoint-{step}")) for step in (2, 4)]
    assert lines[-1]["kind"] == "end"
    assert run.config["learning_rate"] == 1e-3
    assert run.config["seed"] == 7
    assert read_json(run.path / "run.json")["higher_is_better"] == {"heldout/samples_per_second": True}


def test_a_run_that_goes_on_is_not_ended(tmp_path: Path) -> None:
    with finetui.init("longer", config={"mine": 1}) as run:
        train(tmp_path, finetui.TrainerCallback(run))
        assert run.active
        run.log({"after": 1.0})
    assert run.config["mine"] == 1
    assert run.config["max_steps"] == 4


def test_what_trl_and_a_machine_with_gpus_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, answer in GPUS.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    args = SimpleNamespace(
        device=torch.device("cuda", 0), n_gpu=1, world_size=4, bf16=True, fp16=False, max_length=512, packing=True,
        train_batch_size=2, gradient_accumulation_steps=8,
    )  # fmt: skip
    assert callback._devices(args) == {"device": "4 × NVIDIA H200", "gpus": 4}
    assert callback._precision(args, None) == {"precision": "bf16"}
    assert callback._sizes(args) == {"max_length": 512, "tokens_per_step": 2 * 8 * 4 * 512}
    assert callback._rows("train_examples", SimpleNamespace(dataset=iter(()))) == {}

"""Adapters of several kinds on one base: each as if it were alone, the base untouched and held once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from engine.bundled.catalogue import model_path
from finetui import bottleneck
from finetui.adapters import Adapters
from finetui.bottleneck import AdapterError

TASK = "CAUSAL_LM"
IDS = torch.arange(10, 34).reshape(2, 12)
CONFIGS: dict[str, Any] = {
    "lora-4": peft.LoraConfig(task_type=TASK, r=4, target_modules="all-linear"),
    "rslora": peft.LoraConfig(task_type=TASK, r=8, use_rslora=True, target_modules="all-linear"),
    "dora": peft.LoraConfig(task_type=TASK, r=8, use_dora=True, target_modules=["q_proj", "down_proj"]),
    "ia3": peft.IA3Config(task_type=TASK),
    "prompt": peft.PromptTuningConfig(task_type=TASK, num_virtual_tokens=5),
    "prefix": peft.PrefixTuningConfig(task_type=TASK, num_virtual_tokens=5),
}


def load_base(**options: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        model_path("stdlib-2m"), dtype=torch.float32, **options
    ).eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapters of every kind, saved, with weights as training might leave them."""
    root = tmp_path_factory.mktemp("adapters")
    for seed, (name, config) in enumerate(CONFIGS.items()):
        model = peft.get_peft_model(load_base(), config)
        torch.manual_seed(seed)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += torch.randn_like(parameter) * 0.05
        model.save_pretrained(root / name)
    adapted = bottleneck.add(load_base(), bottleneck.Bottleneck(placement="pfeiffer"))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn_like(parameter) * 0.05
    bottleneck.save(adapted, root / "bottleneck")
    return root


@torch.no_grad()
def outputs(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits, tokens generated with a cache)."""
    tokens = model.generate(
        input_ids=IDS,
        attention_mask=torch.ones_like(IDS),
        max_new_tokens=6,
        do_sample=False,
        eos_token_id=None,
    )
    return model(input_ids=IDS).logits, tokens


def alone(directory: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The outputs with this adapter and no other, on a base of its own, as its own library loads it."""
    if directory.name != "bottleneck":
        return outputs(peft.PeftModel.from_pretrained(load_base(), directory).eval())
    model = bottleneck.load(load_base(), directory)
    bottleneck.set_active(model, "default")
    return outputs(model)


def equal(ours: tuple[torch.Tensor, ...], theirs: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_each_adapter_gives_what_it_gives_alone_in_any_order(saved: Path) -> None:
    names = [*CONFIGS, "bottleneck"]
    expected: dict[str | None, Any] = {name: alone(saved / name) for name in names}
    expected[None] = outputs(load_base())
    for name in names:
        assert not torch.allclose(expected[name][0][:, -12:], expected[None][0]), name  # it does something

    adapters = Adapters(load_base())
    for name in names:
        adapters.load(name, saved / name)
        assert equal(outputs(adapters.model), expected[None])  # loading puts nothing in use
    assert adapters.names == names
    for name in [*names, None, *reversed(names), None]:
        assert equal(outputs(adapters.use(name)), expected[name]), name


def test_the_base_is_held_once_and_never_changed(saved: Path) -> None:
    base = load_base()
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    weights = {p.data_ptr() for p in base.parameters()}
    adapters = Adapters(base)
    for name in ("lora-4", "rslora", "ia3"):
        adapters.load(name, saved / name)
        frozen = {
            p.data_ptr()
            for n, p in adapters.use(name).named_parameters()
            if "lora_" not in n and "ia3_" not in n
        }
        assert frozen == weights
    after = base.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_context_ends_with_what_was_in_use_before(saved: Path) -> None:
    adapters = Adapters(load_base())
    adapters.load("a", saved / "lora-4")
    adapters.load("b", saved / "ia3")
    adapters.use("a")
    with adapters.using("b") as model:
        assert adapters.active == "b"
        assert model is adapters.model
        with adapters.using(None):
            assert adapters.active is None
    assert adapters.active == "a"
    with pytest.raises(RuntimeError, match="inside"), adapters.using("b"):
        raise RuntimeError("inside")
    assert adapters.active == "a"
    adapters.unload("a")
    assert (adapters.active, adapters.names) == (None, ["b"])


def test_a_four_bit_base_is_shared_too(saved: Path) -> None:
    options = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
    base = load_base(quantization_config=options, device_map={"": "cpu"})
    for module in base.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    adapters = Adapters(base)
    adapters.load("a", saved / "lora-4")
    layer = adapters.use("a").get_base_model().model.layers[0].mlp.down_proj.base_layer
    assert layer.weight is base.model.layers[0].mlp.down_proj.weight
    logits = outputs(adapters.model)[0]
    adapters.use(None)
    base_logits = outputs(adapters.model)[0]
    assert not torch.allclose(logits, base_logits)
    assert torch.equal(logits, outputs(peft.PeftModel.from_pretrained(base, saved / "lora-4").eval())[0])


def test_what_cannot_be_loaded_is_told(saved: Path, tmp_path: Path) -> None:
    adapters = Adapters(load_base())
    with pytest.raises(AdapterError, match="give a directory with a saved adapter"):
        adapters.load("a", tmp_path)
    with pytest.raises(AdapterError, match="no adapter named 'a' is loaded"):
        adapters.use("a")
    adapters.load("a", saved / "lora-4")
    with pytest.raises(AdapterError, match="choose another"):
        adapters.load("a", saved / "ia3")

    config = json.loads((saved / "lora-4" / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(AdapterError, match="cannot be loaded"):  # a config without weights
        adapters.load("b", tmp_path)
    weights = (saved / "ia3" / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter_model.safetensors").write_bytes(weights)
    with pytest.raises(AdapterError, match="cannot be loaded"):  # weights of another method
        adapters.load("b", tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "init_lora_weights": "pissa"}))
    with pytest.raises(AdapterError, match="began as pissa"):
        adapters.load("b", tmp_path)
    assert adapters.names == ["a"]

"""The memory estimate: shapes, formulas, remedies, correction. No model is trained here."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.basics.cpu import cpu_has_bf16
from engine.basics.errors import ModelError
from engine.memory.correction import correction
from engine.memory.estimate import GIB, LOGITS_AT_ONCE, chunk, estimate, parameter_bytes, quantised_bytes
from engine.memory.families import FAMILIES, PRESETS
from engine.memory.fit import fit, fit_workload, table, table_lines, wants_checkpointing
from engine.memory.shapes import from_config, model_shapes
from engine.memory.weights import from_header
from engine.memory.workload import Workload, workload_of
from engine.recipe.sections import Recipe

SMALL = {
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 40,
    "num_hidden_layers": 2,
    "vocab_size": 512,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
SMALL_GPT2 = {"n_embd": 96, "n_head": 4, "n_layer": 2, "vocab_size": 512, "n_positions": 512}


def small_config(kind: str) -> dict[str, object]:
    from transformers import AutoConfig

    widths = SMALL_GPT2 if kind == "gpt2" else SMALL
    if kind in ("qwen2_moe", "qwen3_moe"):
        widths = widths | {"moe_intermediate_size": 64}
    return AutoConfig.for_model(kind, **widths).to_dict()


@pytest.mark.parametrize("kind", [*FAMILIES, "gpt2"])
def test_shapes_from_config_are_those_that_transformers_builds(kind: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = small_config(kind)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    built = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert {weight.name: weight.shape for weight in from_config(config, kind).weights} == built


@pytest.mark.parametrize(
    ("name", "parameters"), [("7B", 6_738_415_616), ("13B", 13_015_864_320), ("70B", 68_976_648_192)]
)
def test_presets_have_the_published_numbers_of_parameters(name: str, parameters: int) -> None:
    assert model_shapes(name).parameters == parameters


def test_header_and_config_of_the_bundled_model_agree() -> None:
    model = model_shapes("bundled:stdlib-2m")
    from engine.bundled import catalogue

    config = json.loads((catalogue.model_path("stdlib-2m") / "config.json").read_text())
    by_config = from_config(config, "config")
    assert set(model.weights) == set(by_config.weights)
    assert replace(model, source="", weights=()) == replace(by_config, source="", weights=())


def test_unknown_architecture_without_weights_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba", "hidden_size": 8}))
    with pytest.raises(ModelError, match="architecture mamba cannot be derived from"):
        model_shapes(str(tmp_path))
    with pytest.raises(ModelError, match="no such directory"):
        model_shapes(str(tmp_path / "missing"))


def test_unknown_architecture_with_weights_is_read_from_the_header(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    known = from_config({"model_type": "llama", "tie_word_embeddings": False, **SMALL}, "x")
    save_file({w.name: torch.zeros(w.shape) for w in known.weights}, tmp_path / "model.safetensors")
    config = {"model_type": "brand-new", "tie_word_embeddings": False, **SMALL}
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = model_shapes(str(tmp_path))
    assert set(read.weights) == set(known.weights)
    assert (read.gated, read.norms, read.query_norm) == (True, 2, "")


def test_a_bias_is_not_taken_for_the_mask_of_old_files() -> None:
    header = {"h.0.attn.c_attn.bias": [288], "h.0.attn.bias": [1, 1, 512, 512], "h.0.attn.masked_bias": []}
    assert [weight.name for weight in from_header(header, tied=True)] == ["h.0.attn.c_attn.bias"]


def test_missing_shards_are_not_taken_for_the_whole_model(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"model.norm.weight": torch.zeros(96)}, tmp_path / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **SMALL}))
    assert (
        model_shapes(str(tmp_path)).parameters
        == from_config({"model_type": "llama", **SMALL}, "x").parameters
    )


def test_four_bits_with_constants() -> None:
    numbers = 2**26
    assert quantised_bytes(numbers, double=True) * 8 / numbers == pytest.approx(4.127, abs=1e-3)
    assert quantised_bytes(numbers, double=False) * 8 / numbers == pytest.approx(4.5, abs=1e-3)


@pytest.mark.parametrize("double", [True, False])
def test_four_bits_are_what_bitsandbytes_stores(double: bool) -> None:
    import bitsandbytes as bnb
    import torch

    weight = torch.randn(256, 320)
    packed, state = bnb.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=double)
    tensors = [packed, state.absmax, state.code]
    if double:
        tensors += [state.offset, state.state2.absmax, state.state2.code]
    assert quantised_bytes(weight.numel(), double) == sum(tensor.nbytes for tensor in tensors)


def test_trained_parameters_are_those_of_peft() -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    for kind, targets in [
        ("llama", "all-linear"),
        ("llama", ("q_proj", "down_proj")),
        ("gpt2", "all-linear"),
    ]:
        config = small_config(kind)
        names = targets if isinstance(targets, str) else list(targets)
        with torch.device("meta"):
            base = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
            model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=names))
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        workload = Workload("lora", 128, 32, targets=targets, r=8)
        assert estimate(from_config(config, kind), workload).trained == trained


@pytest.mark.parametrize(
    "method",
    [
        {"name": "full"},
        {"name": "freeze", "layers": 2},
        {"name": "freeze", "modules": ["self_attn", "layers.4.mlp"]},
        {"name": "freeze", "modules": ["lm_head"]},  # tied to the embedding
        {"name": "lora", "dora": True, "r": 4, "targets": "mlp"},
        {"name": "qlora"},
        {"name": "shira", "r": 3, "targets": "mlp"},
        {"name": "oft", "block": 20},  # which divides no layer's inputs
        {"name": "osf"},
        {"name": "adapter"},
        {"name": "adapter", "placement": "pfeiffer", "reduction": 3},
        {"name": "ia3"},
        {"name": "prefix", "tokens": 7},
        {"name": "prompt", "tokens": 7},
    ],
    ids=str,
)
def test_trained_and_held_weights_are_those_of_every_method(method: dict[str, object]) -> None:
    """Against the model as the engine loads it: numbers that get gradients, bytes of all weights."""
    import torch

    from engine.models.load import count_parameters, load_model

    recipe, shapes = a_recipe(method=method), model_shapes("bundled:stdlib-2m")
    for dtype in (torch.float32, torch.bfloat16):
        model = load_model(recipe.model, recipe.method, dtype)
        workload = replace(workload_of(recipe, shapes, "cpu"), bf16=dtype == torch.bfloat16)
        assert estimate(shapes, workload).trained == count_parameters(model, trained_only=True)
        held = sum(parameter.nbytes for parameter in model.parameters())
        if method["name"] != "qlora":  # whose constants are no parameters; they are tested above
            assert parameter_bytes(shapes, workload) == held


def test_logits_are_capped_as_in_the_loss() -> None:
    from engine.losses import loss

    assert loss.LOGITS_AT_ONCE == LOGITS_AT_ONCE
    assert chunk(128_000) == 2**26 // 128_000
    seven = model_shapes("7B")
    few, many = (estimate(seven, Workload("lora", tokens, 512)) for tokens in (4096, 65536))
    assert many.activations > 10 * few.activations
    assert many.logits <= 3 * 4 * LOGITS_AT_ONCE


def test_methods_and_settings_order_as_they_must() -> None:
    seven = model_shapes("7B")
    full, lora, qlora = (estimate(seven, Workload(m, 2048, 2048)).total for m in ("full", "lora", "qlora"))  # type: ignore[arg-type]
    assert full > lora > qlora
    workload = Workload("lora", 2048, 2048)
    assert estimate(seven, replace(workload, checkpointing=True)).total < lora
    assert estimate(seven, replace(workload, lora_dropout=0.1)).total > lora
    assert estimate(seven, replace(workload, bf16=False)).total > lora
    assert (
        estimate(seven, replace(workload, targets=("q_proj", "v_proj"))).activations
        < estimate(seven, workload).activations
    )
    full_workload = Workload("full", 2048, 2048)
    by_optimiser = [
        estimate(seven, replace(full_workload, optimiser=name)).optimiser  # type: ignore[arg-type]
        for name in ("adamw", "adamw8bit", "adafactor")
    ]
    assert by_optimiser[0] == 8 * seven.parameters
    assert by_optimiser == sorted(by_optimiser, reverse=True)


def test_seven_billion_by_hand() -> None:
    """QLoRA's base: linear layers at 4.127 bits, embedding, head and norms in bfloat16."""
    seven = model_shapes("7B")
    linear = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008)
    rest = 2 * 32000 * 4096 + 65 * 4096
    assert linear + rest == seven.parameters
    adapters = 16 * 32 * (4 * (4096 + 4096) + 3 * (4096 + 11008))
    by_hand = linear * 4.127 / 8 + rest * 2 + adapters * 4
    assert parameter_bytes(seven, Workload("qlora", 2048, 2048)) == pytest.approx(by_hand, rel=1e-3)


def a_recipe(**sections: object) -> Recipe:
    return Recipe.model_validate(
        {"model": "bundled:stdlib-2m", "method": "full", "data": {"train": "bundled:docstrings"}} | sections
    )


def test_workload_of_a_recipe() -> None:
    model = model_shapes("7B")
    recipe = a_recipe(
        method={"name": "qlora", "r": 8, "double_quant": False},
        train={"micro_tokens": 1024, "max_length": 4096},
    )
    workload = workload_of(recipe, model, "cuda", longest=3000)
    assert (workload.tokens, workload.length, workload.bf16, workload.r, workload.double_quant) == (
        3000,
        3000,
        True,
        8,
        False,
    )
    assert workload_of(recipe, model, "cpu").bf16 is cpu_has_bf16()
    assert workload_of(a_recipe(), model, "cuda").length == 2048
    assert workload_of(a_recipe(train={"tokens_per_step": 4096}), model, "cuda").accumulates is False


def test_what_would_make_it_fit() -> None:
    model = model_shapes("7B")
    recipe = a_recipe(train={"micro_tokens": 8192, "tokens_per_step": 16384, "max_length": 2048})
    answer = fit(recipe, model, 24 * GIB)
    assert not answer.fits
    totals = [answer.estimate.total, *(remedy.total for remedy in answer.remedies)]
    assert totals == sorted(totals, reverse=True)
    assert [remedy.fits for remedy in answer.remedies] == [False] * (len(answer.remedies) - 1) + [True]
    assert answer.remedies[0].change == "train.micro_tokens: 4096"
    assert answer.remedies[-1].change == "method: lora"
    assert fit_workload(answer.remedies[-1].workload, model, 24 * GIB).fits
    assert fit(recipe, model, 400 * GIB).remedies == ()
    hopeless = fit(recipe, model, 2 * GIB)
    assert "no change below is enough" in hopeless.lines()[0]


def test_activation_checkpointing_is_chosen_where_only_it_fits() -> None:
    model = model_shapes("7B")
    workload = Workload("qlora", 4096, 2048)
    without, with_it = (estimate(model, replace(workload, checkpointing=on)).total for on in (False, True))
    assert with_it < 0.5 * without
    assert not wants_checkpointing(workload, model, without)
    assert wants_checkpointing(workload, model, without - 1)
    assert wants_checkpointing(workload, model, without, factor=1.01)
    assert wants_checkpointing(workload, model, with_it)
    assert not wants_checkpointing(workload, model, with_it - 1)  # it would not help
    assert not wants_checkpointing(replace(workload, method="prefix", virtual=8), model, with_it)
    for asked, memory, chosen in (
        ("auto", 24, True),
        (False, 24, False),
        (True, 400, True),
        ("auto", 400, False),
    ):
        train = {"micro_tokens": 4096, "max_length": 2048, "activation_checkpointing": asked}
        answer = fit(a_recipe(method="qlora", train=train), model, memory * GIB)
        assert answer.workload.checkpointing == chosen


def test_a_correction_changes_the_answer() -> None:
    model = model_shapes("7B")
    workload = Workload("lora", 2048, 2048, checkpointing=True)
    memory = round(estimate(model, workload).total * 1.05)
    assert fit_workload(workload, model, memory).fits
    assert not fit_workload(workload, model, memory, factor=1.2).fits


def test_table_of_presets() -> None:
    rows = table(24)
    assert [(row.model, row.method) for row in rows if row.fits] == [
        ("7B", "lora"),
        ("7B", "qlora"),
        ("13B", "qlora"),
    ]
    assert len(table_lines(rows, 24)) == 1 + len(PRESETS)


def test_parts_add_up() -> None:
    found = estimate(model_shapes("7B"), Workload("lora", 4096, 2048))
    parts = found.parameters + found.gradients + found.optimiser + found.activations + found.logits
    assert found.total == parts + found.workspace + found.framework
    assert found.lines()[-1].startswith("peak")


def test_correction_without_runs_changes_nothing() -> None:
    none = correction([])
    assert (none.factor, none.runs, none.apply(1000)) == (1.0, 0, 1000)
    assert none.error == pytest.approx(0.10)


def test_correction_learns_the_ratio_and_how_sure_it_is() -> None:
    one, many = correction([(100, 130)]), correction([(100, 130)] * 30)
    assert 1.0 < one.factor < many.factor < 1.30
    assert many.factor == pytest.approx(1.30, rel=0.02)
    assert many.error < one.error
    noisy = correction([(100, 130 * (1 + 0.2 * (-1) ** i)) for i in range(30)])
    assert noisy.error == pytest.approx(0.2, abs=0.03)


def test_correction_leaves_out_what_is_no_measurement() -> None:
    assert correction([(100, 0), (0, 5), (100, math.inf), (100, 900)]).runs == 0


def test_estimate_imports_neither_torch_nor_transformers() -> None:
    script = (
        "import sys, engine.memory.fit as f, engine.memory.correction; f.table(24); "
        "print([m for m in ('torch', 'transformers', 'peft', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

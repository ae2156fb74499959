"""What is known of a model before its weights are loaded: what would be trained, or why it cannot be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.basics.errors import ModelError
from engine.bundled.catalogue import model_path
from engine.client import preflight
from engine.memory.estimate import estimate
from engine.memory.shapes import from_config, from_outline
from engine.memory.trained import trained_weights
from engine.memory.workload import recipe_shapes, workload_of
from engine.models import load, outline, skeleton
from engine.models.methods.vectors import scaled_layers
from engine.models.outline import PLAIN, Outline, outline_of
from engine.recipe.sections import ModelSpec, Recipe
from scripts.architectures import tiny_config

LORA = {"name": "lora", "r": 1}


def saved(path: Path, kind: str, **changes: Any) -> str:
    """A configuration as a directory: skeletons need no more."""
    config = tiny_config(kind)
    for name, value in changes.items():
        setattr(config, name, value)
    config.save_pretrained(path / kind)
    return str(path / kind)


def examined(path: Path, kind: str, method: Any = LORA, task: str = "sft", **changes: Any) -> Outline:
    recipe = recipe_of(saved(path, kind, **changes), method)
    return skeleton.examine(recipe.model, recipe.method.model_dump(), task)


def recipe_of(model: str, method: Any = LORA, **sections: Any) -> Recipe:
    return Recipe.model_validate({"model": model, "method": method, "data": {"train": "-"}, **sections})


def rows(path: Path) -> str:
    lines = (json.dumps({"prompt": f"q{i}", "completion": f"a{i}"}) + "\n" for i in range(40))
    (path / "rows.jsonl").write_text("".join(lines))
    return str(path / "rows.jsonl")


def with_tokenizer(directory: str) -> str:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(model_path("stdlib-2m") / name, directory)
    return directory


@pytest.mark.parametrize("kind", PLAIN)
def test_of_a_plain_architecture_the_formulas_know_all(kind: str, tmp_path: Path) -> None:
    directory = saved(tmp_path, kind)
    config = json.loads((Path(directory) / "config.json").read_text())
    whole = tiny_config(kind).to_dict()
    for method in ("full", LORA, LORA | {"targets": "mlp"}, "ia3"):
        recipe = recipe_of(directory, method)
        assert outline.is_plain(recipe, config)
        found = skeleton.outline(recipe)
        assert not found.refusal
        assert not found.notes
        by_formula, by_skeleton = from_config(whole, kind), from_outline(found, kind)
        assert {w.name: w.role for w in by_formula.weights} == {w.name: w.role for w in by_skeleton.weights}
        workload = workload_of(recipe, by_formula, "cpu")
        expected = sum(w.numel for w in trained_weights(by_formula, workload))
        weights = found.weights if found.trained is None else found.trained
        assert sum(torch.Size(shape).numel() for _, shape, _ in weights) == expected


@pytest.mark.parametrize(
    ("kind", "method", "task", "says"),
    [
        ("bart", "full", "sft", "bart is an encoder-decoder model; task sft needs a causal language model"),
        ("bert", "full", "sft", "bert is an encoder, each token of it sees those after it"),
        ("xlnet", "full", "completion", "xlnet is an encoder"),
        ("llama4_text", "full", "sft", "Llama4ForCausalLM is not made of a decoder and a head"),
        ("mamba", LORA, "sft", r"cannot adapt \(out_proj\); set it to \[dt_proj, in_proj, x_proj\]"),
        ("falcon_h1", LORA, "sft", r"cannot adapt \(out_proj\)"),
        ("mamba", {"name": "prefix", "tokens": 4}, "sft", "has layers that keep none; use lora"),
        (
            "mixtral",
            LORA | {"init": "pissa"},
            "sft",
            r"method.init: PiSSA does not work on experts .*\[k_proj, o",
        ),
        ("mixtral", LORA | {"init": "eva"}, "sft", "method.init: EVA does not work on experts and routers"),
        (
            "mamba",
            LORA | {"targets": "mlp"},
            "sft",
            "method.targets: MambaForCausalLM has no MLP of linear layers",
        ),
        (
            "gpt2",
            "oft",
            "sft",
            r"oft changes layers of type Linear, and GPT2LMHeadModel has others \(Conv1D\)",
        ),
        (
            "llama",
            {"name": "shira", "r": 25},
            "sft",
            r"key method.r: 25 asks .*self_attn.k_proj has \(32 x 64\); at most 21",
        ),
        ("mixtral", LORA | {"dora": True}, "sft", "method.dora: DoRA does not work on experts and routers"),
        ("qwen3_moe", LORA | {"dropout": 0.1}, "sft", "method.dropout: dropout does not work on experts"),
        ("mixtral", LORA | {"targets": ["q_prj"]}, "sft", "no layer q_prj; did you mean q_proj"),
        (
            "mistral",
            {"name": "prefix", "tokens": 64},
            "sft",
            r"fill the sliding window of this model \(32 tok",
        ),
        ("gpt2", {"name": "freeze", "modules": ["query"]}, "sft", "no module of GPT2LMHeadModel .* query"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    kind: str, method: Any, task: str, says: str, tmp_path: Path
) -> None:
    changes = {"sliding_window": 32} if kind == "mistral" else {}
    refusal = examined(tmp_path, kind, method, task, **changes).refusal
    assert refusal
    assert "\n" not in refusal
    with pytest.raises(ModelError, match=says):
        raise ModelError(refusal)


def test_settings_that_reach_no_expert_are_fine(tmp_path: Path) -> None:
    for change in ({"init": "pissa"}, {"dora": True}, {"dropout": 0.1}):
        assert not examined(tmp_path, "mixtral", LORA | {"targets": ["q_proj"]} | change).refusal
    assert not examined(tmp_path, "mixtral", LORA | {"targets": ["w1", "w3"]}).refusal


def test_check_asks_a_process_and_the_worker_itself_with_one_answer(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("FINETUI_HOME", str(tmp_path / "home"))
    recipe = recipe_of(saved(tmp_path, "bart"), "full")
    with pytest.raises(ModelError) as asked:
        outline_of(recipe)
    (kept,) = (tmp_path / "home/cache/outlines").iterdir()
    assert json.loads(kept.read_text())["refusal"] == str(asked.value) == skeleton.outline(recipe).refusal
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0


def test_targets_that_are_reached_and_those_that_are_not_are_told(tmp_path: Path) -> None:
    found = examined(tmp_path, "deepseek_v3")
    assert found.reached
    assert "self_attn.q_a_proj" in found.reached
    assert "mlp.experts.down_proj" in found.reached
    (note,) = found.notes
    assert "no adapter to mlp.gate_proj" in note
    assert "mlp.shared_experts.up_proj" in note
    assert "of the weights in the blocks" in note
    (note,) = examined(tmp_path, "deepseek_v3", LORA | {"targets": ["up_proj", "gate_proj"]}).notes
    assert "targets: [up_proj, gate_proj] gives no adapter to mlp.gate_proj, mlp.up_proj, mlp.shared" in note
    (note,) = examined(tmp_path, "gpt_oss").notes
    assert "mlp.experts.gate_up_proj" in note


def test_what_is_otherwise_with_experts_is_told(tmp_path: Path) -> None:
    more = {"moe_intermediate_size": 512}
    (note,) = examined(tmp_path, "qwen3_moe", LORA | {"name": "qlora"}, **more).notes
    assert "qlora saves little here" in note
    (note,) = examined(tmp_path, "qwen3_moe", "ia3").notes
    assert "ia3 scales no MLP of experts" in note
    asks = {"output_router_logits": True}
    (note,) = examined(tmp_path, "qwen3_moe", "full", **asks).notes
    assert "added with weight 0.001, and logged as train/router_balance" in note
    (note,) = examined(tmp_path, "qwen3_moe", "full", "classification", **asks).notes
    assert "which task classification does not use" in note
    (note,) = examined(tmp_path, "mistral", {"name": "prefix", "tokens": 4}, sliding_window=32).notes
    assert "from token 28 of a text on" in note


def test_the_estimate_counts_adapters_of_experts(tmp_path: Path) -> None:
    config = tiny_config("qwen3_moe")
    torch.manual_seed(0)
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    recipe = recipe_of(str(tmp_path), {"name": "lora", "r": 6})
    outline.keep(recipe, skeleton.outline(recipe))
    shapes = recipe_shapes(recipe)
    workload = workload_of(recipe, shapes, "cpu")
    model = load.load_model(recipe.model, recipe.method, torch.float32)
    trained = load.count_parameters(model, trained_only=True)
    assert estimate(shapes, workload).trained == trained
    assert shapes.parameters == load.count_parameters(model) - trained
    other = recipe_of(str(tmp_path), {"name": "lora", "r": 3})  # the rank is no part of the outline
    assert estimate(recipe_shapes(other), workload_of(other, shapes, "cpu")).trained == trained // 2
    # PEFT adds the product to a copy of each expert, which the backward pass keeps.
    kept: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own and tensor.dim() == 3 and len(tensor) == 4:
            kept[id(tensor.untyped_storage())] = tensor.untyped_storage().nbytes()
        return tensor

    alive = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: alive.append(t) or pack(t), lambda t: t):
        model.get_base_model().model(input_ids=torch.arange(9)[None], use_cache=False)
    experts = sum(w.numel for w in shapes.weights if ".experts." in w.name)
    assert sum(kept.values()) >= 4 * experts
    from engine.memory import estimate as estimates

    routers = sum(w.numel for w in shapes.weights if w.name.endswith("mlp.gate.weight"))
    assert estimates._merged_bytes(shapes, replace(workload, bf16=False)) == 4 * (experts + routers)


@pytest.mark.parametrize("kind", ["gpt_neo", "bloom", "mpt", "opt", "gpt_bigcode", "falcon", "openai-gpt"])
def test_sizes_are_known_by_the_names_that_architectures_use(kind: str, tmp_path: Path) -> None:
    recipe = recipe_of(saved(tmp_path, kind), LORA)
    outline.keep(recipe, skeleton.outline(recipe))
    shapes = recipe_shapes(recipe)
    assert (shapes.layers, shapes.hidden, shapes.heads) == (2, 64, 4)
    assert estimate(shapes, workload_of(recipe, shapes, "cpu")).total > 0


IA3_LAYERS = {
    "llama": "k_proj v_proj down_proj",
    "qwen2": "k_proj v_proj down_proj",
    "qwen3": "k_proj v_proj down_proj",
    "gemma": "k_proj v_proj down_proj",
    "gemma2": "k_proj v_proj down_proj",
    "gemma3_text": "k_proj v_proj down_proj",
    "smollm3": "k_proj v_proj down_proj",
    "granite": "k_proj v_proj down_proj",
    "olmo2": "k_proj v_proj down_proj",
    "phi": "k_proj v_proj fc2",
    "opt": "k_proj v_proj fc2",
    "gptj": "k_proj v_proj fc_out",
    "gpt_neo": "k_proj v_proj c_proj",
    "phi3": "qkv_proj down_proj",
    "gpt2": "c_attn c_proj",
    "gpt_neox": "query_key_value dense_4h_to_h",
    "bloom": "query_key_value dense_4h_to_h",
    "falcon": "query_key_value dense_4h_to_h",
    "qwen3_moe": "k_proj v_proj",
    "deepseek_v3": "kv_b_proj down_proj",
}


@pytest.mark.parametrize("kind", IA3_LAYERS)
def test_ia3_scales_keys_values_and_what_is_inside_the_mlp(kind: str) -> None:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(tiny_config(kind))
    keys, mlp_ends = scaled_layers(model)
    names = [path.rpartition(".")[2] for path in [*keys, *mlp_ends]]
    assert list(dict.fromkeys(names)) == IA3_LAYERS[kind].split()
    adapted = load.adapt(model, recipe_of("m", "ia3").method)
    scaled = {path for path, module in adapted.named_modules() if hasattr(module, "ia3_l")}
    assert {path.removeprefix("base_model.model.") for path in scaled} == {*keys, *mlp_ends}
    assert all(
        module.is_feedforward == (path.removeprefix("base_model.model.") in mlp_ends)
        for path, module in adapted.named_modules()
        if hasattr(module, "ia3_l")
    )


def test_check_sees_tokens_beyond_the_embedding(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    directory = Path(shutil.copytree(model_path("stdlib-2m"), tmp_path / "model"))
    recipe = recipe_of(str(directory), data={"train": rows(tmp_path)}, evals={"general": None})
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|turn|>"])
    tokenizer.save(str(directory / "tokenizer.json"))
    preflight.check(recipe, tmp_path)  # nothing writes it
    template = (directory / "chat_template.jinja").read_text()
    (directory / "chat_template.jinja").write_text(template + "<|turn|>")
    with pytest.raises(ModelError, match="produces token 3072, but the model knows only 3072"):
        preflight.check(recipe, tmp_path)


def test_check_sees_such_tokens_in_reasoning_too(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    directory = Path(shutil.copytree(model_path("stdlib-2m"), tmp_path / "model"))
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|turn|>"])
    tokenizer.save(str(directory / "tokenizer.json"))
    answer = {"role": "assistant", "content": "Yes.", "reasoning_content": "Is it? <|turn|>"}
    lines = [
        {"messages": [{"role": "user", "content": f"{n}?"}, answer | {"content": f"{n}."}]} for n in range(60)
    ]
    (tmp_path / "thoughts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = {"train": str(tmp_path / "thoughts.jsonl"), "heldout": 4}
    recipe = recipe_of(str(directory), data=data, evals={"general": None})
    with pytest.raises(ModelError, match="produces token 3072, but the model knows only 3072"):
        preflight.check(recipe, tmp_path)


def test_check_says_which_layers_get_an_adapter(tmp_path: Path) -> None:
    data = {"train": rows(tmp_path)}
    report = preflight.check(recipe_of("bundled:stdlib-2m", data=data, evals={"general": None}), tmp_path)
    assert any(line.startswith("  targets  down_proj, gate_proj, k_proj") for line in report.lines())
    some = recipe_of("bundled:stdlib-2m", LORA | {"targets": ["q_proj"]}, data=data, evals={"general": None})
    assert "q_proj; without adapter: down_proj, gate_proj" in "\n".join(
        preflight.check(some, tmp_path).lines()
    )


def test_a_model_that_cannot_be_looked_at_is_left_to_the_worker(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "brand-new"}))
    refusal = skeleton.examine(ModelSpec(path=str(tmp_path)), LORA, "sft").refusal
    assert refusal
    assert "its config cannot be read" in refusal

"""Try every architecture for which transformers has a causal language model, with a tiny random one: what `check` says,
and whether full training, LoRA and QLoRA take steps, packed or padded, and give models that load again.

    nice .venv/bin/python scripts/architectures.py [--results FILE] [KIND …]

Without KIND it takes some minutes and writes docs/architectures.md. What FILE has already is not tried again, so that
it can be interrupted.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engine.basics.errors import ModelError  # noqa: E402
from engine.data.chat import Example  # noqa: E402
from engine.losses.loss import TargetLoss, check_model  # noqa: E402
from engine.losses.packing import pack, unpacked  # noqa: E402
from engine.memory.trained import trained_weights  # noqa: E402
from engine.memory.workload import recipe_shapes, workload_of  # noqa: E402
from engine.models import load, outline, skeleton  # noqa: E402
from engine.models.quiet import quiet_libraries  # noqa: E402
from engine.recipe.sections import ModelSpec, Recipe  # noqa: E402
from finetui.errors import first_line  # noqa: E402

PAGE = ROOT / "docs" / "architectures.md"
VOCABULARY = 3072  # of the bundled tokenizer
METHODS = ("full", "lora", "qlora")
STEPS = 3
SECONDS = 40  # of processor time, for one architecture
LARGEST = 20_000_000  # weights of a model that still counts as tiny
CPU = torch.device("cpu")

# Tiny sizes, under every name that a configuration may have for them.
TINY: dict[str, Any] = {
    **dict.fromkeys(["hidden_size", "n_embd", "d_model", "n_embed", "embed_dim", "word_embed_proj_dim"], 64),
    **dict.fromkeys(
        ["num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers"], 2
    ),
    **dict.fromkeys(["num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"], 4),
    **dict.fromkeys(["encoder_attention_heads", "attention_heads"], 4),
    **dict.fromkeys(["num_key_value_heads", "num_kv_heads"], 2),
    **dict.fromkeys(["intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "n_inner"], 128),
    **dict.fromkeys(["ffn_hidden_size", "shared_intermediate_size"], 128),
    **dict.fromkeys(
        ["moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"], 32
    ),
    **dict.fromkeys(["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"], 4),
    **dict.fromkeys(["num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"], 2),
    **dict.fromkeys(["max_position_embeddings", "n_positions", "max_seq_len"], 256),
    **dict.fromkeys(["n_group", "topk_group"], 1),
    "head_dim": 16,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "rotary_dim": 8,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_ssm": 128,
    "mamba_d_state": 8,
    "state_size": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "vocab_size": VOCABULARY,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 16,
    "bos_token_id": 0,
    "eos_token_id": 5,
    "pad_token_id": 1,
}
# What a few need besides.
MORE: dict[str, dict[str, Any]] = {
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 16},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "dots1": {"n_shared_experts": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "gemma3n_text": {"num_kv_shared_layers": 0},
}


def tiny_config(kind: str) -> Any:
    """Return a configuration of a model type with tiny sizes; raises whatever it does not like about them."""
    from transformers import CONFIG_MAPPING

    cls = CONFIG_MAPPING[kind]
    return cls(**_tiny(cls, MORE.get(kind, {})))


def _tiny(cls: Any, more: dict[str, Any]) -> dict[str, Any]:
    from transformers import CONFIG_MAPPING

    own = cls().to_dict()
    sizes = {name: value for name, value in TINY.items() if name in own}
    # Of latent attention: all heads have keys, and `head_dim` is their rotary part.
    if "qk_rope_head_dim" in sizes:
        sizes |= (
            {"num_key_value_heads": 4, "head_dim": 8} if "head_dim" in sizes else {"num_key_value_heads": 4}
        )
    for name, part in cls.sub_configs.items():
        if own.get(name) is None:
            continue
        if part.__name__ == "AutoConfig":
            part = CONFIG_MAPPING[own[name]["model_type"]]
        sizes[name] = _tiny(part, {}) | {"model_type": own[name].get("model_type")}
    return sizes | more


def kinds() -> list[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


@dataclass
class Row:
    """What became of one architecture."""

    kind: str
    check: str = "good"
    cells: dict[str, str] = field(default_factory=dict)  # by method
    rows: str = ""  # packed or padded
    export: str = ""
    why: list[str] = field(default_factory=list)  # of what did not go, in sentences


def trial(kind: str, directory: Path) -> Row:
    """Make a tiny model and try it."""
    from transformers import AutoModelForCausalLM

    row = Row(kind)
    try:
        config = tiny_config(kind)
        skeleton.check_config(config, ModelSpec(path="it"), "sft", "full")
        with torch.device("meta"):
            size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    except ModelError as error:
        row.check = "refused"
        row.why.append(str(error).removeprefix("model it: "))
        return row
    except Exception as error:
        row.check = "not tried"
        row.why.append(f"no tiny model could be made ({type(error).__name__}: {first_line(error)})")
        return row
    if size > LARGEST:
        row.check = "not tried"
        row.why.append(f"its smallest model has {size / 1e6:,.0f}M weights")
        return row
    torch.manual_seed(0)
    try:
        model = AutoModelForCausalLM.from_config(config)
        model(input_ids=torch.arange(6, 18)[None], use_cache=False)
        model.save_pretrained(directory / "base")
    except Exception as error:
        row.check = "not tried"
        row.why.append(f"no tiny model runs or can be saved ({type(error).__name__}: {first_line(error)})")
        return row
    for method in METHODS:
        row.cells[method] = _try_method(row, method, directory)
    refused = [cell.startswith("refused") for cell in row.cells.values()]
    if all(refused):
        row.check, row.cells = "refused", {}
        row.why = [row.why[0].partition(": ")[2]]
    return row


def _try_method(row: Row, method: str, directory: Path) -> str:
    settings: Any = {"name": method, "r": 4} if method != "full" else method
    recipe = Recipe.model_validate(
        {"model": str(directory / "base"), "method": settings, "data": {"train": "-"}}
    )
    found = skeleton.outline(recipe)
    outline.keep(recipe, found)
    if found.refusal:
        row.why.append(f"{method}: {_plain(found.refusal, directory)}")
        return "refused"
    try:
        return _train(row, recipe, directory)
    except ModelError as error:
        row.why.append(f"{method}, in the worker: {_plain(str(error), directory)}")
        return "fails"
    except Exception as error:
        row.why.append(f"{method}: {type(error).__name__}: {_plain(first_line(error), directory)}")
        return "fails"


def _train(row: Row, recipe: Recipe, directory: Path) -> str:
    """Take a few steps; "yes" if the loss falls and as much was trained as was promised."""
    torch.manual_seed(0)
    model = load.load_model(recipe.model, recipe.method, torch.float32).eval()
    check_model(recipe.model.path, TargetLoss(model))
    packed = pack(model)
    row.rows = row.rows or ("packed" if packed else "padded")
    loss, examples = TargetLoss(model, packed), _examples()
    batch = loss.collate(examples, CPU)
    alone = torch.cat([loss.scores(loss.collate([one], CPU)).nll for one in examples])
    apart = (loss.scores(batch).nll - alone).abs().max().item()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=3e-3)
    model.train()
    for _ in range(STEPS):
        (loss(batch) / len(batch.targets)).backward()
        optimiser.step()
        optimiser.zero_grad()
    model.eval()
    losses = alone.sum().item(), loss.scores(batch).nll.sum().item()
    promised = _promised(recipe)
    counted = load.count_parameters(model, trained_only=True)
    wrong = []
    if not losses[1] < losses[0]:
        wrong.append(f"the loss went from {losses[0]:.2f} to {losses[1]:.2f}")
    if promised is not None and abs(promised / counted - 1) > 1e-3:
        wrong.append(f"the estimate counts {promised:,} trained weights of {counted:,}")
    if apart > 1e-3:
        wrong.append(f"an example differs from itself alone by {apart:.1e} nats a token")
    if recipe.method.name != "qlora":
        name, same = _export(recipe, model, directory)
        if same:
            row.export += ", " * bool(row.export) + name
        else:
            wrong.append("what is saved gives other logits when it is loaded")
    row.why += [f"{recipe.method.name}: {what}" for what in wrong]
    return "no" if wrong else "yes"


def _promised(recipe: Recipe) -> int | None:
    try:
        shapes = recipe_shapes(recipe)
        return sum(w.numel for w in trained_weights(shapes, workload_of(recipe, shapes, "cpu")))
    except ModelError:
        return None


def _export(recipe: Recipe, model: Any, directory: Path) -> tuple[str, bool]:
    """Save, load with transformers and PEFT alone, and compare the logits."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ids = torch.arange(3, 19)[None]
    with unpacked(model):
        ours = _logits(model, ids)
    out = directory / recipe.method.name
    load.save_model(model, recipe.method, out)
    if recipe.method.name == "full":
        again = AutoModelForCausalLM.from_pretrained(out)
    else:
        again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(recipe.model.path), out)
    close = torch.allclose(ours, _logits(again.eval(), ids), rtol=1e-3, atol=1e-4)
    return "whole" if recipe.method.name == "full" else "adapter", close


@torch.no_grad()
def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    return model(input_ids=ids, use_cache=False).logits


def _examples() -> list[Example]:
    rng = np.random.default_rng(0)
    return [
        Example(str(n), rng.integers(6, VOCABULARY, n).astype(np.int32), np.arange(n) > n // 3)
        for n in (9, 20, 33)
    ]


def _plain(text: str, directory: Path) -> str:
    return text.replace(f"model {directory / 'base'}: ", "").replace(str(directory), "…")


HEAD = """<!-- Made by scripts/architectures.py; do not edit. -->

# Architectures

Each architecture for which transformers {version} has a causal language model, tried with a tiny model of random
weights on a CPU.

- check: what `finetui check` says.
- full, LoRA (`targets: all-linear`), QLoRA: {steps} steps were taken, the loss fell, an example scored the same
  beside others as alone, and as many weights were trained as the estimate had counted
  (within 0.1%).
- rows: whether examples share a row without padding (packed).
- export: what was saved and gave the same logits when transformers and PEFT loaded it.

A tiny model shows that the parts fit together, not how well a large one learns.

| architecture | check | full | LoRA | QLoRA | rows | export |
|---|---|---|---|---|---|---|
"""


def page(rows: list[Row]) -> str:
    import transformers

    lines = [HEAD.format(version=transformers.__version__, steps=STEPS)]
    lines += [
        f"| `{r.kind}` | {r.check} | "
        + " | ".join(r.cells.get(m, "") for m in METHODS)
        + f" | {r.rows} | {r.export} |\n"
        for r in rows
    ]
    good = sum(all(r.cells.get(m) == "yes" for m in METHODS) for r in rows)
    counts = {what: sum(r.check == what for r in rows) for what in ("refused", "not tried")}
    lines.append(
        f"\n{good} of {len(rows)} take all three; {counts['refused']} are refused by `check`, {counts['not tried']} "
        "could not be tried.\n\n## Why not\n\n"
    )
    reasons = defaultdict(list)
    for r in rows:
        for why in r.why:
            reasons[why.replace(r.kind, "…")].append(r.kind)
    lines += [
        f"- {', '.join(f'`{kind}`' for kind in kinds)}: {why}\n" for why, kinds in sorted(reasons.items())
    ]
    return "".join(lines)


class TooLongError(BaseException):
    """No `except Exception` is to catch it."""


def _too_long(*_: Any) -> None:
    raise TooLongError


def main() -> None:
    parser = argparse.ArgumentParser(description="Try every architecture with a tiny model.")
    parser.add_argument("--results", type=Path, help="where rows are kept and read from, JSON lines")
    parser.add_argument("kinds", nargs="*", metavar="KIND")
    options = parser.parse_args()
    quiet_libraries()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, _too_long)
    known: dict[str, Row] = {}
    if options.results and options.results.exists():
        known = {row.kind: row for row in (Row(**json.loads(line)) for line in options.results.open())}
    for kind in options.kinds or kinds():
        if kind in known:
            continue
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        with tempfile.TemporaryDirectory() as directory:
            try:
                known[kind] = trial(kind, Path(directory))
            except TooLongError:
                known[kind] = Row(kind, "not tried", why=[f"its tiny model takes more than {SECONDS} s"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(known[kind], flush=True)
        if options.results:
            with options.results.open("a") as file:
                file.write(json.dumps(vars(known[kind])) + "\n")
    if not options.kinds:
        PAGE.write_text(page([known[kind] for kind in kinds()]))


if __name__ == "__main__":
    main()

"""The Python that loads an exported folder, as its card shows it. Torch-free."""

from __future__ import annotations

import json
from pathlib import Path

from engine.export import gguf
from engine.export.source import Source
from engine.models.source import locate
from engine.recipe.methods import Adapter, QLora

GENERATE = """\
turns = [{"role": "user", "content": "Hello"}]
prompt = tokenizer.apply_chat_template(
    turns, add_generation_prompt=True, return_dict=True, return_tensors="pt"
).to(model.device)
answer = model.generate(**prompt, max_new_tokens=32)
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))"""


def loading_code(source: Source, kind: str, folder: Path) -> str:
    """Return code that loads the folder and generates an answer."""
    imports, load = _load_adapter(source) if kind == "adapter" else _load_whole_model()
    file = f', gguf_file="{gguf.FILE}"' if kind == "gguf" else ""
    return "\n".join(
        [
            *imports,
            "",
            f"folder = {json.dumps(str(folder), ensure_ascii=False)}  # this folder, wherever it is",
            f"tokenizer = AutoTokenizer.from_pretrained(folder{file})",
            *(line.replace("(folder)", f"(folder{file})") for line in load),
            GENERATE,
        ]
    )


def base_of(source: Source) -> str:
    """Return the base model as `from_pretrained` takes it: a directory or a hub id."""
    path = source.recipe.model.path
    return str(locate(path) or path)


def _load_whole_model() -> tuple[list[str], list[str]]:
    return (
        ["from transformers import AutoModelForCausalLM, AutoTokenizer"],
        ["model = AutoModelForCausalLM.from_pretrained(folder)"],
    )


def _load_adapter(source: Source) -> tuple[list[str], list[str]]:
    method = source.recipe.method
    dtype = "bfloat16" if source.precision == "bf16" else "float32"
    classes = ["AutoModelForCausalLM", "AutoTokenizer"]
    options = f'dtype="{dtype}"'
    quantisation = []
    if isinstance(method, QLora):
        classes.append("BitsAndBytesConfig")
        options += ", quantization_config=four_bits"
        quantisation = [
            "four_bits = BitsAndBytesConfig(",
            "    load_in_4bit=True,",
            f'    bnb_4bit_quant_type="{method.quant}",',
            f"    bnb_4bit_use_double_quant={method.double_quant},",
            f'    bnb_4bit_compute_dtype="{dtype}",',
            ")",
        ]
    name = json.dumps(base_of(source), ensure_ascii=False)  # a literal of Python, too
    base = [*quantisation, f"base = AutoModelForCausalLM.from_pretrained({name}, {options})"]
    transformers = f"from transformers import {', '.join(classes)}"
    if isinstance(method, Adapter):
        imports = [
            "from pathlib import Path",
            "",
            "from finetui import bottleneck  # finetui",
            transformers,
        ]
        return imports, [
            *base,
            "model = bottleneck.load(base, Path(folder))",
            'bottleneck.set_active(model, "default")  # None: the base alone',
        ]
    return ["from peft import PeftModel", transformers], [
        *base,
        "model = PeftModel.from_pretrained(base, folder)",
    ]

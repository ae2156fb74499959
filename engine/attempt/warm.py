"""What a pool imports before it forks the first worker: all that a run imports, and what libraries work out once.

One thread, no training, and nothing that asks the GPU's driver, which does not survive a fork.
"""

from __future__ import annotations

import gc
from pathlib import Path

from engine.models.quiet import quiet_libraries

gc.disable()  # imports make a million objects that stay
quiet_libraries()  # before PEFT imports bitsandbytes

import torch  # noqa: E402

torch.set_num_threads(1)  # before any work: a process that has run on several threads must not fork

from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoTokenizer, LlamaForCausalLM  # noqa: E402

import engine.attempt.ranks  # noqa: E402
import engine.training.loop  # noqa: E402
import engine.training.setup  # noqa: E402, F401
from engine.bundled.catalogue import model_path  # noqa: E402
from engine.data import data_cache  # noqa: E402


def warm_up() -> None:
    """Load and adapt a small model, for what libraries import and work out at the first one."""
    states = torch.get_rng_state()
    bundled = model_path("stdlib-2m")
    AutoTokenizer.from_pretrained(bundled)
    get_peft_model(LlamaForCausalLM.from_pretrained(bundled), LoraConfig(target_modules="all-linear"))
    torch.set_rng_state(states)


data_cache.code()  # each fork would read the same files
# PEFT and transformers ask for the GPU when they make a model.
if torch.version.cuda is None or not Path("/dev/nvidiactl").exists():
    warm_up()
gc.enable()

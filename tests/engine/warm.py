"""What the server of forks has done before it forks the first worker: all imports, and what libraries work out once in
a process. No training and no GPU: a process that has threads or a driver must not fork.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer, LlamaForCausalLM

import engine.attempt.worker
import engine.training.loop
import engine.training.setup  # noqa: F401
from engine.bundled.catalogue import model_path
from engine.models.quiet import quiet_libraries

quiet_libraries()
torch.set_num_threads(1)
bundled = model_path("stdlib-2m")
AutoTokenizer.from_pretrained(bundled)
get_peft_model(LlamaForCausalLM.from_pretrained(bundled), LoraConfig(target_modules="all-linear"))

# Workers find their modules without this, and so do the programs that they start.
here = str(Path(__file__).parent)
paths = [path for path in os.environ["PYTHONPATH"].split(os.pathsep) if path != here]
if paths:
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
else:
    del os.environ["PYTHONPATH"]
sys.path.remove(here)
gc.collect()
gc.freeze()  # a collection in a fork would copy all that it looks at

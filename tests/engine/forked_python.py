"""Stands in for a Python that is started anew: `python forked_python.py [-u …] (-c CODE | -m MODULE …)`.

The process that it becomes is a fork of the session's pool, and has torch, transformers and PEFT imported. Where there
is no pool to ask it is Python itself.
"""

from __future__ import annotations

import os
import signal
import sys

from engine.basics import child
from engine.basics.pool import PLACE

# What torchrun sets, and the pool takes for what a process reads as it imports.
OF_TORCHRUN = ("TORCHELASTIC_", "TORCH_NCCL_", "TORCH_DISTRIBUTED_")


def main(arguments: list[str]) -> int:
    own = [name for name in os.environ if name.startswith(OF_TORCHRUN)]
    words = (*(f"{name}={os.environ.pop(name)}" for name in own), *arguments)
    process = child.fork("forked_program", words, (0, 1, 2)) if PLACE in os.environ else None
    if process is None:
        os.environ |= dict(word.split("=", 1) for word in words[: len(own)])
        os.execv(sys.executable, [sys.executable, *arguments])
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    code = process.wait()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

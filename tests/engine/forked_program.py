"""In a fork of the pool: run what the arguments of a Python name, after its options and variables of its own."""

from __future__ import annotations

import os
import runpy
import sys

from engine.attempt.ranks import LAUNCHER
from engine.models.threads import set_threads

if __name__ == "__main__":
    words = sys.argv[1:]
    while words[0] not in ("-c", "-m"):
        name, found, value = words.pop(0).partition("=")
        if found:
            os.environ[name] = value
    if LAUNCHER in os.environ:  # a rank looks whether it is still this one's, or that of its child
        os.environ[LAUNCHER] = str(os.getppid())
    set_threads()
    kind, what, *rest = words
    sys.argv[:] = [kind, *rest]
    if kind == "-c":
        exec(what, {"__name__": "__main__", "__builtins__": __builtins__})
    else:
        runpy.run_module(what, run_name="__main__", alter_sys=True)

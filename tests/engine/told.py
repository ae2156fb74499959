"""Writes what it is to a file: what a process has from its parent, and from how it was started."""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path


def state() -> dict[str, object]:
    """Everything that a fork could have otherwise than a program that was executed."""
    status = Path("/proc/self/status").read_text().splitlines()
    umask = os.umask(0o077)
    masks = [line for line in status if line.startswith(("Sig", "Shd", "NoNewPrivs", "Threads"))]
    return {
        "argv": sys.argv,
        "orig_argv": sys.orig_argv,
        "shown": Path("/proc/self/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(),
        "comm": Path("/proc/self/comm").read_text(),
        "environ": dict(os.environ),
        "cwd": str(Path.cwd()),
        "umask": umask,
        "leads its session": os.getsid(0) == os.getpid(),
        "leads its group": os.getpgid(0) == os.getpid(),
        "descriptors": {
            fd.name: str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()
        },
        "signals": [line for line in masks if not line.startswith("SigQ")],
        "handlers": {
            number.name: str(signal.getsignal(number)) for number in signal.valid_signals() if number < 32
        },
        "limits": [resource.getrlimit(number) for number in range(15)],
        "path": sys.path,
        "flags": str(sys.flags),
        "unbuffered": sys.stdout.write_through,
        "nice": os.nice(0),
        "collects garbage": gc.isenabled(),
        "main": sys.modules["__main__"].__spec__.name,
    }


if __name__ == "__main__":
    if sys.argv[1] == "--sleep":
        time.sleep(600)
        sys.exit()
    print("said", flush=True)
    print(sys.stdin.read(), end="", flush=True)
    Path(sys.argv[1]).write_text(json.dumps(state(), indent=1))
    sys.exit(3)

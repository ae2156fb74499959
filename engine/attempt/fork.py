"""In a fork of the pool: become what a program of ours is that was started by exec, without its imports.

Light, since the shim asks here how to turn its child into the worker.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import re
import runpy
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from engine.basics import pool
from engine.basics.process import set_command_line
from finetui.start import program

# What a Python that is started anew does with signals; SIGTERM is the kernel's own.
AT_START: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGCHLD: signal.SIG_DFL,
    signal.SIGPIPE: signal.SIG_IGN,
    signal.SIGXFSZ: signal.SIG_IGN,
}
_LIBRARIES = r"/\S*/(?:libgomp|libomp|libiomp5|libscipy_openblas|libopenblas)[^/\s]*"
_SET_THREADS = (
    "omp_set_num_threads",
    *(f"{prefix}openblas_set_num_threads{suffix}" for prefix in ("", "scipy_") for suffix in ("", "64_")),
)

forked = False  # whether this process is a fork of the pool
waits_for_end: socket.socket | None = None  # the connection to whoever asked for this fork and waits


def begin(environment: Mapping[str, str], folder: str, umask: int) -> None:
    """Take over what exec would have set: session, folder, environment, signals, threads, random numbers."""
    global forked
    forked = True
    os.setsid()
    os.umask(umask)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    reset_signals()
    threads = int(environment.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    for set_threads in thread_setters():
        set_threads(threads)
    # As every process has its own; Python sees to its own, PyTorch has one seed.
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()


def redirect(descriptor: int, *places: int) -> None:
    """Move a descriptor to where a program looks for it: 0, or 1 and 2."""
    for place in places:
        os.dup2(descriptor, place)
    if descriptor not in places:
        os.close(descriptor)


def reset_signals() -> None:
    """Take signals as a Python that is started anew does, also those that have come while they were blocked."""
    for number, action in AT_START.items():
        signal.signal(number, action)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def run(module: str, *arguments: str) -> NoReturn:
    """Run a module of ours as `program` does, and end this process as it ends."""
    code = 1
    try:
        set_command_line(program(module, *arguments))
        sys.argv[:] = [module, *arguments]
        sys.orig_argv[:] = program(module, *arguments)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = _exit_code(error)
    except BaseException:
        _print_error()
    _end(code)


def tell_end(code: int) -> None:
    """Say how this process ends, as the last thing that it does: its streams are closed, and all that is left is that
    the kernel takes its memory, for which nobody has to wait.
    """
    if waits_for_end is None:
        return
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError):
            os.close(descriptor)
    with contextlib.suppress(OSError):  # who waits is gone
        pool.send(waits_for_end, {"status": (code & 0xFF) << 8})


@functools.cache
def thread_setters() -> list[Callable[[int], object]]:
    """Return the functions of loaded libraries that set how many threads they use: they have read the environment. The
    pool looks for them before it forks.
    """
    import ctypes

    try:
        loaded = sorted(set(re.findall(_LIBRARIES, Path("/proc/self/maps").read_text())))
    except OSError:
        return []
    libraries = [ctypes.CDLL(path) for path in loaded]
    found = (getattr(library, name, None) for library in libraries for name in _SET_THREADS)
    return [setter for setter in found if setter is not None]


def _print_error() -> None:
    import traceback

    traceback.print_exc()


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)
    return 1


def _end(code: int) -> NoReturn:
    """End as an interpreter does, but let the kernel take the memory: to free each object would copy it first."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as every interpreter does
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        _print_error()
    os._exit(code & 0xFF)

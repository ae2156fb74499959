"""What libraries are kept from doing as they are imported, and the threads that they get."""

from __future__ import annotations

import os
import sys

import torch
from workers import Call, finish

from engine.basics.cpu import physical_cores
from engine.models import quiet
from engine.models.threads import set_threads


def test_a_run_begins_without_torchs_compiler() -> None:
    assert finish(Call(_look)) == 0


def _look() -> None:
    """In a fork of the pool, which has all that a run imports."""
    assert "bitsandbytes" in sys.modules
    assert "torch._inductor.compile_fx" not in sys.modules
    assert torch.compile.__module__ == "torch"


def test_a_fork_of_the_pool_computes_on_every_core() -> None:
    """The pool itself has one thread."""
    assert finish(Call(_count_threads)) == 0


def _count_threads() -> None:
    assert torch.get_num_threads() == 1
    os.environ["OMP_NUM_THREADS"] = "3"
    set_threads()
    assert torch.get_num_threads() == 3
    del os.environ["OMP_NUM_THREADS"]
    set_threads()
    assert torch.get_num_threads() == physical_cores()


def test_what_a_library_asks_for_is_compiled_once_and_as_it_asked(monkeypatch) -> None:
    asked = []

    def compile_now(function, **options):
        asked.append((function.__name__, options))
        return lambda *arguments: ("compiled", function(*arguments))

    module = """
import torch
@torch.compile(dynamic=False)
def double(x): return 2 * x
@torch.compile
def half(x): return x / 2
"""
    made: dict = {}
    monkeypatch.setattr(torch, "compile", compile_now)
    monkeypatch.setattr(quiet.importlib, "import_module", lambda name: exec(module, made))
    quiet.import_bitsandbytes()
    assert torch.compile is compile_now
    assert asked == []
    assert [made["double"](4), made["double"](5), made["half"](8)] == [
        ("compiled", 8),
        ("compiled", 10),
        ("compiled", 4),
    ]
    assert asked == [("double", {"dynamic": False}), ("half", {})]

"""What the screen may import, and when."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "transformers", "duckdb", "peft", "datasets", "accelerate", "bitsandbytes")


def imported_by(code: str) -> set[str]:
    """Top-level modules after running `code` in a fresh interpreter."""
    listing = f"{code}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_app_imports_nothing_heavy_before_the_first_paint() -> None:
    loaded = imported_by("import tui.app")
    assert loaded.isdisjoint({*HEAVY, "pyarrow", "numpy", "pydantic"})


def test_the_rules_of_runs_come_without_the_types_of_log_lines() -> None:
    """Two dozen dataclasses take as long to make as a widget to import."""
    code = "import tui.app, engine.runs.lifecycle, sys\nassert 'engine.runs.lifecycle' in sys.modules\n"
    imported_by(
        f"{code}assert not {{'store.lines', 'store.journal_lines'}} & set(sys.modules), 'types of log lines'"
    )


def test_no_screen_ever_imports_torch_or_duckdb() -> None:
    loaded = imported_by(
        "import tui.app, tui.screens.palette, tui.screens.run, tui.screens.compare, tui.screens.sql, tui.screens.help\n"
        "import tui.screens.queries, tui.screens.data, tui.screens.fix, tui.screens.scale, tui.cli.scale\n"
        "import finetui.client, store.schema, engine.client.service"
    )
    assert loaded.isdisjoint(HEAVY)


def test_commands_that_show_runs_compute_nothing() -> None:
    """SciPy alone is a quarter of what a command imports."""
    assert imported_by("import tui.cli.commands, tui.cli.show, tui.cli.flags").isdisjoint(
        {*HEAVY, "numpy", "scipy"}
    )


def test_an_export_is_made_in_a_process_of_its_own() -> None:
    assert imported_by("import tui.cli.export, engine.basics.errors, engine.export.request").isdisjoint(HEAVY)


def test_a_command_that_the_pool_runs_imports_next_to_nothing_itself() -> None:
    loaded = imported_by("import tui.cli\nfrom tui.cli import forked\nfrom engine.basics import child")
    assert loaded.isdisjoint({"dataclasses", "psutil", "subprocess", "tempfile", "typer", "rich", "pyarrow"})


def test_a_list_of_runs_is_printed_without_what_draws() -> None:
    code = "import tui.cli.ls, sys\nassert 'rich.console' not in sys.modules\n"
    assert imported_by(code).isdisjoint({*HEAVY, "pydantic", "numpy", "pyarrow"})

"""What other people's programs meet: they may have modules called `engine`, `store` and `tui`, beside the program or in
PYTHONPATH, and finetui works all the same, with every process that it starts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from with_daemon import a_home, submit, wait_state

from engine.client import service
from finetui.daemon import connect
from finetui.home import Home
from finetui.start import PACKAGES, ROOT, program

THEIRS = 'raise RuntimeError(f"{__name__} of the user was imported")\n'
RECIPE = "model: bundled:stdlib-2m\nmethod: lora\ndata: {train: bundled:docstrings}\n"
METRIC = "def score(predictions, references):\n    return 0.25\n"


@dataclass(frozen=True)
class Folder:
    """A user's folder, and a home; `home` also has a daemon once something has asked for one."""

    path: Path
    home: Home

    def python(self, script: str, *words: str) -> str:
        """What a script in the folder prints."""
        file = self.path / "script.py"
        file.write_text(script)
        return self.run(sys.executable, str(file), *words)

    def finetui(self, *words: str, code: int = 0) -> str:
        return self.run(*program("finetui", *words), code=code)

    def run(self, *command: str, code: int = 0) -> str:
        done = subprocess.run(
            command, cwd=self.path, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        assert done.returncode == code, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """It is the first folder in PYTHONPATH as well, so that what is started meets the same names."""
    path = tmp_path_factory.mktemp("theirs")
    for name in PACKAGES:
        (path / f"{name}.py").write_text(THEIRS)
    (path / "mine.py").write_text(METRIC)
    with a_home(path / "home") as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(path), os.environ["PYTHONPATH"], str(ROOT)]))
        yield Folder(path, home)


@pytest.fixture(scope="module")
def number(folder: Folder) -> int:
    """A finished run: daemon, shim and worker were started with the user's PYTHONPATH."""
    with connect(folder.home) as client:
        number = submit(client, steps=3)
        wait_state(client, number, "finished")
    return number


def test_a_script_starts_the_daemon_and_asks_it(folder: Folder) -> None:
    service.stop(folder.home)
    said = folder.python(
        "import finetui\n"
        "with finetui.connect() as client:\n"
        "    print(client.query('SELECT 42 AS n').to_pylist()[0]['n'], client.action('status')['home'])\n"
    )
    assert said.split() == ["42", str(folder.home.path)]
    assert service.running(folder.home)


def test_a_run_goes_through_daemon_shim_and_worker(folder: Folder, number: int) -> None:
    script = (
        "import sys, finetui\n"
        "with finetui.connect(sys.argv[1]) as client:\n"
        "    print(client.query('SELECT run, state FROM runs').to_pylist())\n"
    )
    assert folder.python(script, str(folder.home.path)).strip() == str([{"run": number, "state": "finished"}])


def test_the_command_works_as_it_is_installed(folder: Folder, number: int) -> None:
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["finetui"]
    module, _, function = entry.partition(":")
    script = f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n"  # as pip writes it
    listed = json.loads(folder.python(script, "ls", "--json"))
    assert [(row["run"], row["state"]) for row in listed] == [(number, "finished")]


def test_what_the_command_starts_works(folder: Folder, number: int) -> None:
    (folder.path / "my.yaml").write_text(RECIPE)
    assert "good, 1 run" in folder.finetui("check", "my.yaml")  # the report on data is a process of its own
    # So is an export; there is nothing to export in this run.
    said = folder.finetui("export", str(number), code=4)
    assert "of the user" not in said
    assert said.startswith("finetui: ")


def test_metrics_of_the_user_are_found_in_pythonpath(folder: Folder) -> None:
    (folder.path / "probe.py").write_text(
        "from pathlib import Path\n"
        "from engine.evals.metrics import Metrics\n"
        "print(Metrics(['mine:score'], Path('nowhere'), print).measures(['a'], ['b'])['score'].value)\n"
    )
    assert float(folder.run(*program("probe"))) == 0.25


def test_the_import_brings_next_to_nothing(folder: Folder) -> None:
    told = folder.python("import sys, finetui\nprint(*{name.partition('.')[0] for name in sys.modules})\n")
    heavy = {"pyarrow", "torch", "numpy", "duckdb", "pydantic", "rich", "textual", "typer"}
    assert set(told.split()).isdisjoint({*heavy, *PACKAGES})
    assert "finetui" in told.split()


ADAPTERS = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
from finetui.bottleneck import Bottleneck

config = LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=32)
base, other = LlamaForCausalLM(config), LlamaForCausalLM(config)
bottleneck.save(bottleneck.add(other, Bottleneck()), Path("adapter"))
adapters = Adapters(base)
adapters.load("mine", Path("adapter"))
with adapters.using("mine") as model:
    print(bottleneck.active(model), adapters.active)
"""


def test_what_the_documents_import_can_be_imported(folder: Folder) -> None:
    """Of the guide, the page on SQL and the model cards: every import of finetui, as it stands there."""
    sources = [*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "engine" / "export" / "loading.py"]
    text = "\n".join(source.read_text() for source in sources)
    lines = set(re.findall(r'^ *"?((?:from finetui[\w.]* import \w+|import finetui)\b)', text, re.MULTILINE))
    names = ("import bottleneck", ".adapters import Adapters", "import connect")
    assert all(any(line.endswith(name) for line in lines) for name in names), lines
    assert folder.python("\n".join(sorted(lines)) + ADAPTERS).split() == ["default", "mine"]


def test_names_that_are_ours_are_all_our_packages() -> None:
    """A new package beside these would be open to the clash again."""
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == {"finetui", *PACKAGES}

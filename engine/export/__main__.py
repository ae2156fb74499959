"""`python -P -m finetui.start engine.export RUN_DIR REQUEST`: exports a run, in a process of its own because of torch.

REQUEST is a JSON object: `kind`, `out`, `dtype`, `force`, `checkpoint`. On stdout one JSON object a line:
`{"say": …}` for progress, at the end `{"done": {…}}`, or `{"error": …}` with exit code 2.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from engine.runs.home import RunDir
from finetui.errors import FinetuiError


def main(run_dir: str, argument: str) -> int:
    from engine.export.request import ExportRequest, check_request, choose_kind
    from engine.export.source import read

    options = json.loads(argument)
    try:
        source = read(RunDir(Path(run_dir).absolute()))
        kind = choose_kind(source, options.pop("kind"))
        name = f"{source.meta.get('slug') or 'run'}-{source.number}-{kind}"
        out = Path(options.pop("out") or name).absolute()
        request = ExportRequest(kind, out, **options)
        check_request(source, request)
        _print_line("say", f"exporting run #{source.number} {source.name} ({kind}) to {out}")
        if Path(source.meta.get("cwd") or ".").is_dir():  # paths in the recipe start where it was submitted
            os.chdir(source.meta.get("cwd") or ".")
        from engine.models.quiet import quiet_libraries

        quiet_libraries()  # before bitsandbytes is imported, which logs at import
        from engine.export.build import export

        _print_line("done", export(source, request, lambda text: _print_line("say", text)))
        return 0
    except FinetuiError as error:
        _print_line("error", str(error))
        return 2


def _print_line(kind: str, value: Any) -> None:
    print(json.dumps({kind: value}), flush=True)  # in ASCII, which any locale can print


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))

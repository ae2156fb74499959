"""`python -P -m finetui.start engine.export RUN_DIR WISH`: exports a run, in a process of its own because of torch.

WISH is a JSON object: `kind`, `out`, `dtype`, `force`, `checkpoint`. On stdout one JSON object a line:
`{"say": …}` as it goes on, at the end `{"done": {…}}`, or `{"error": …}` with exit code 2.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from engine.runs.home import RunDir
from finetui.errors import FinetuiError


def main(run_dir: str, wish: str) -> int:
    from engine.export.source import read
    from engine.export.wish import Wish, check, kind_of

    asked = json.loads(wish)
    try:
        source = read(RunDir(Path(run_dir).absolute()))
        kind = kind_of(source, asked.pop("kind"))
        name = f"{source.meta.get('slug') or 'run'}-{source.number}-{kind}"
        out = Path(asked.pop("out") or name).absolute()
        final = Wish(kind, out, **asked)
        check(source, final)
        _tell("say", f"exporting run #{source.number} {source.name} ({kind}) to {out}")
        if Path(source.meta.get("cwd") or ".").is_dir():  # paths in the recipe start where it was submitted
            os.chdir(source.meta.get("cwd") or ".")
        from engine.models.quiet import quiet_libraries

        quiet_libraries()  # before bitsandbytes is imported, which has something to say
        from engine.export.build import export

        _tell("done", export(source, final, lambda text: _tell("say", text)))
        return 0
    except FinetuiError as error:
        _tell("error", str(error))
        return 2


def _tell(kind: str, value: Any) -> None:
    print(json.dumps({kind: value}), flush=True)  # in ASCII, which any locale can print


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))

"""`python -P -m engine.data.report [--brief] RECIPE.yaml [key=value …]`: the report as one JSON object on stdout.

A process of its own, so that the command line and the screen need not import transformers. A sweep is reported
on by its first recipe. `--brief`: only what is refused and warned of, from some of the rows. Exit code 2 and one
sentence on stderr if there is nothing to report on.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    brief = arguments[:1] == ["--brief"]
    arguments = arguments[brief:]
    if not arguments:
        print("usage: python -P -m engine.data.report [--brief] RECIPE.yaml [key=value …]", file=sys.stderr)
        return 2
    from engine.data.sources import DataError
    from engine.model_source import ModelError
    from engine.recipe_file import RecipeError, read

    path = Path(arguments[0])
    try:
        recipe = read(path, arguments[1:]).recipes[0]
        if not recipe.model.trust_remote_code:
            _without_torch()
        from engine.data.report.build import brief_report, build

        report = (brief_report if brief else build)(recipe, path.absolute().parent).as_dict()
    except (DataError, ModelError, RecipeError) as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(report))  # in ASCII, which any locale can print
    return 0


def _without_torch() -> None:
    """Tokenizers do without torch, and transformers then takes two seconds less to import."""
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"  # it would note the absence
    sys.modules["torch"] = None  # type: ignore[assignment]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -P -m finetui.start engine.export RUN_DIR REQUEST`: exports a run, or scores what it is worth at factors
below 1, or the tokens of one example, in a process of its own because of torch.

REQUEST is a JSON object: `kind`, `out`, `dtype`, `force`, `checkpoint`, `factor`; `{"kind": "scale"}` alone to score;
`{"kind": "tokens"}` with `suite` and `example`.
On stdout one JSON object a line: `{"say": …}` for progress, `{"point": {…}}` for a factor that was scored, at the end
`{"done": {…}}`, or `{"error": …}` with exit code 2. SIGTERM and Ctrl-C end it with nothing written.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.basics.errors import ExportError
from engine.runs.home import RunDir
from finetui.errors import FinetuiError

if TYPE_CHECKING:
    from engine.export.source import Source

CANCELLED = 130


def main(run_dir: str, argument: str) -> int:
    options = json.loads(argument)
    verb, work = {"scale": ("scaled", _scale), "tokens": ("scored", _score_tokens)}.get(
        options["kind"], ("exported", _export)
    )
    try:
        from engine.export.source import read

        _print_line("done", work(read(RunDir(Path(run_dir).absolute()), verb), options))
        return 0
    except FinetuiError as error:
        _print_line("error", str(error))
    except KeyboardInterrupt:
        return CANCELLED
    except Exception as error:
        if not (sentence := _out_of_memory(error)):
            raise
        _print_line("error", sentence)
    return 2


def _export(source: Source, options: dict[str, Any]) -> dict[str, Any]:
    from engine.export.request import ExportRequest, check_request, choose_kind

    kind = choose_kind(source, options.pop("kind"))
    factor = options.get("factor", 1.0)
    scaled = "" if factor == 1 else f"-scaled-{factor:g}"
    name = f"{source.meta.get('slug') or 'run'}-{source.number}{scaled}-{kind}"
    request = ExportRequest(kind, Path(options.pop("out") or name).absolute(), **options)
    check_request(source, request)
    _say(f"exporting run #{source.number} {source.name} ({kind}) to {request.out}")
    _prepare(source)
    from engine.export.build import export

    return export(source, request, _say)


def _score_tokens(source: Source, options: dict[str, Any]) -> dict[str, Any]:
    _prepare(source)
    from engine.export.tokens import score_tokens

    return score_tokens(source, options["suite"], options["example"], _say)


def _scale(source: Source, _: dict[str, Any]) -> dict[str, Any]:
    from engine.export.request import check_finished

    check_finished(source)
    _prepare(source)
    from engine.export.scale import scale
    from engine.export.scale_log import append

    front = scale(source, _say, lambda point: _print_line("point", point))
    append(source, front.line)
    return front.as_dict()


def _prepare(source: Source) -> None:
    """Go where the recipe was submitted, from which its paths start; keep libraries quiet, on every core."""
    if Path(source.meta.get("cwd") or ".").is_dir():
        os.chdir(source.meta.get("cwd") or ".")
    from engine.models.quiet import quiet_libraries
    from engine.models.threads import set_threads

    quiet_libraries()  # before PEFT imports bitsandbytes
    set_threads()


def _out_of_memory(error: Exception) -> str:
    if isinstance(error, ExportError) or "torch" not in sys.modules:
        return ""
    from engine.training.memory_guard import is_out_of_memory

    if not is_out_of_memory(error):
        return ""
    return "there is not enough memory for it: wait until no run uses this machine, or use another one"


def _say(text: str) -> None:
    _print_line("say", text)


def _print_line(kind: str, value: Any) -> None:
    print(json.dumps({kind: value}), flush=True)  # in ASCII, which any locale can print


if __name__ == "__main__":
    # As an exception, so that what is half written is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1], sys.argv[2]))

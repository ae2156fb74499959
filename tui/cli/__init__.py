"""The `finetui` command: data on stdout, narration on stderr, exit codes that scripts can rely on."""

from __future__ import annotations

import sys

from tui.cli import exits


def main() -> None:
    """Run the command line; every error that a person can cause ends in one sentence and an exit code."""
    from tui.cli.commands import app

    try:
        app()
    except BrokenPipeError:  # `finetui ls | head`
        sys.stderr.close()
        sys.exit(exits.OK)
    except Exception as error:
        code = exits.code_of(error)
        if code is None:
            raise
        print(f"finetui: {error}", file=sys.stderr)
        sys.exit(code)

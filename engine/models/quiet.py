"""Silence messages of libraries that are meant for developers."""

from __future__ import annotations

import logging
import warnings


def quiet_libraries() -> None:
    """Keep messages of libraries to developers out of the output that people read."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it reports an optional kernel package

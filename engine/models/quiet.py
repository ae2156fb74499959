"""Libraries that talk to their developers."""

from __future__ import annotations

import logging
import warnings


def quiet_libraries() -> None:
    """Keep what libraries say to their developers out of the text that people read."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of an optional kernel package

"""What ends training with a sentence."""


class TrainingError(Exception):
    """Training cannot go on; `str()` is one sentence with what to try."""

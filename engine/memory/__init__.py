"""The memory that a run needs, estimated without torch and without loading weights."""

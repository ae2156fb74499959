"""How much memory a run needs, worked out without torch and without loading weights."""

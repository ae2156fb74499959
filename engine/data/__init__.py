"""Training data: reading, bundled sets, checks, tokenising and packing."""

"""Ready-made recipes and the bundled model, shipped as package data."""

"""From a finished run to a folder that others can use: an adapter or a whole model, with a model card."""

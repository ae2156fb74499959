"""The model as a function from a batch to a loss."""

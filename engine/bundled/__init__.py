"""The model and the data sets that come along."""

"""The methods that adapt a model, each knowing nothing of the others."""

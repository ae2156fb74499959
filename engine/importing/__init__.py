"""Runs of other tools as run directories of ours: found, read, and written once."""

"""Runs of finetui by the names of other trackers, so that a script moves by one line."""

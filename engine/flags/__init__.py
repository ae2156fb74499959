"""Statements with evidence that a run is going wrong: pure functions over arrays, no I/O, no torch.

Most read the same thing: `History` (flag.py), the scores of each example of a suite at each evaluation. The correction
for many looks and several slices is in multiplicity.py, the actions that help are in actions.py.
"""

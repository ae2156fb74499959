"""Statements with evidence that a run is going wrong: pure functions over arrays, no I/O, no torch.

Most look at the same thing: `History` (flag.py), the scores of each example of a suite at each evaluation. That a run
is looked at many times, in several slices, is answered for in multiplicity.py. Which actions help is in actions.py.
"""

"""Statements with evidence that a run is going wrong: pure functions over arrays, no I/O, no torch.

All look at the same thing: `History`, the loss of each example of a suite at each evaluation. A run is
looked at many times, so look k is tested at level 6 a / (pi^2 k^2), which sums to a over all looks, and a
flag needs two hits in a row.
"""

"""Score held-out suites: scores per example, intervals, sample answers."""

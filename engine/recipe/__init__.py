"""The recipe: everything decided before a run, in sections, and how its file is read."""

"""What is decided before a run: the recipe, its sections and how its file is read."""

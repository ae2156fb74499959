"""The engine: recipes, queue, workers, training, evaluation and flags."""

"""`finetui data`: a recipe's data on one page."""

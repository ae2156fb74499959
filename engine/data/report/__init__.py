"""What `finetui data` shows about the data of a recipe."""

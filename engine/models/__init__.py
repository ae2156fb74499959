"""Find and load models, adapt them to a method, spread them over processes."""

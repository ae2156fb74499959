"""Models: found, loaded, adapted to a method, spread over processes."""

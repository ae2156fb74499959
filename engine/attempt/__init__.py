"""One process life of a run: the shim, the worker, and its processes."""

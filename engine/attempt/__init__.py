"""Run one attempt: the shim, the worker, and its processes."""

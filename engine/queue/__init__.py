"""The daemon: the queue, which runs may start, and the outcome of attempts."""

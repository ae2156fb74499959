"""The daemon: the queue, who may start, and what becomes of attempts."""

"""Curves that other trainers write: found, read as they grow, and named as ours are."""

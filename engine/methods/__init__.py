"""What is trained: every weight, adapters, adapters on a 4-bit base."""
